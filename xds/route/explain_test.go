package route

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExplain(t *testing.T) {
	table := compile(t, Config{Routes: []Route{
		{Name: "path", Match: Match{Path: "/other"}, Topic: "t"},
		{Name: "prefix", Match: Match{Prefix: "/other/"}, Topic: "t"},
		{Name: "regex", Match: Match{SafeRegex: "/[0-9]+"}, Topic: "t"},
		{Name: "method", Match: Match{Path: "/a", Methods: []string{"PUT", "PATCH"}}, Topic: "t"},
		{Name: "host", Match: Match{Path: "/a", Hosts: []string{"Shop.Example", "*.b", "c.*", "[::1]"}}, Topic: "t"},
		{Name: "absent", Match: Match{Path: "/a", Headers: []HeaderMatch{{Name: "X-None"}}}, Topic: "t"},
		{Name: "present", Match: Match{Path: "/a", Headers: []HeaderMatch{{Name: "x-a", Present: new(false)}}}, Topic: "t"},
		{Name: "exact", Match: Match{Path: "/a", Headers: []HeaderMatch{{Name: "x-b"}, {Name: "x-a", Exact: new("1")}}}, Topic: "t"},
		{Name: "begins", Match: Match{Path: "/a", Headers: []HeaderMatch{{Name: "x-a", Prefix: new("2")}}}, Topic: "t"},
		{Name: "fits", Match: Match{Path: "/a", Headers: []HeaderMatch{{Name: "x-a", SafeRegex: new("[a-z]")}}}, Topic: "t"},
		{Name: "taker", Match: Match{Prefix: "/"}, Topic: "leads"},
		{Name: "late", Match: Match{Path: "/a"}, Topic: "t"},
	}})
	got := table.Explain(&Request{
		Method: "POST", Authority: "a.example:80", Path: "/a?b",
		Headers: [][2]string{{"x-a", "1"}, {"x-b", ""}, {"x-a", "2"}},
	})
	want := []Step{
		{"path", false, `path "/a" is not "/other"`},
		{"prefix", false, `path "/a" does not begin with "/other/"`},
		{"regex", false, `path "/a" is not as safe_regex "/[0-9]+" wants it, as a whole`},
		{"method", false, `method POST is not PUT or PATCH`},
		{"host", false, `host "a.example" is not shop.example or *.b or c.* or [::1]`},
		{"absent", false, `header x-none is absent`},
		{"present", false, `header x-a is present`},
		{"exact", false, `header x-a is "1,2", not "1"`},
		{"begins", false, `header x-a is "1,2" and does not begin with "2"`},
		{"fits", false, `header x-a is "1,2", not as safe_regex "[a-z]" wants it, as a whole`},
		{"taker", true, `takes the request: topic leads`},
		{"late", true, `would match too, but taker comes first`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
