package route

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExplain(t *testing.T) {
	table := compile(t, Config{Routes: []Route{
		{Name: "path", Match: Match{Path: "/other"}, Policy: Policy{Topic: "t"}},
		{Name: "prefix", Match: Match{Prefix: "/other/"}, Policy: Policy{Topic: "t"}},
		{Name: "regex", Match: Match{SafeRegex: "/[0-9]+"}, Policy: Policy{Topic: "t"}},
		{Name: "method", Match: Match{Path: "/a", Methods: []string{"PUT", "PATCH"}}, Policy: Policy{Topic: "t"}},
		{Name: "host", Match: Match{Path: "/a", Hosts: []string{"Shop.Example", "*.b", "c.*", "[::1]"}}, Policy: Policy{Topic: "t"}},
		{Name: "absent", Match: Match{Path: "/a", Headers: []ValueMatch{{Name: "X-None"}}}, Policy: Policy{Topic: "t"}},
		{Name: "present", Match: Match{Path: "/a", Headers: []ValueMatch{{Name: "x-a", Present: new(false)}}}, Policy: Policy{Topic: "t"}},
		{Name: "exact", Match: Match{Path: "/a", Headers: []ValueMatch{{Name: "x-b"}, {Name: "x-a", Exact: new("3")}}}, Policy: Policy{Topic: "t"}},
		{Name: "begins", Match: Match{Path: "/a", Headers: []ValueMatch{{Name: "x-a", Prefix: new("1,")}}}, Policy: Policy{Topic: "t"}},
		{Name: "fits", Match: Match{Path: "/a", Headers: []ValueMatch{{Name: "x-a", SafeRegex: new("[a-z]")}}}, Policy: Policy{Topic: "t"}},
		{Name: "parameter", Match: Match{Path: "/a", QueryParameters: []ValueMatch{{Name: "b", Exact: new("1")}}}, Policy: Policy{Topic: "t"}},
		{Name: "template", Match: Match{PathTemplate: "/{a}/b"}, Policy: Policy{Topic: "t"}},
		{Name: "some", Match: Match{Path: "/a"}, Policy: Policy{Topic: "t", Mode: ModeMirror, Sample: new(Percent(5_000))}},
		{Name: "taker", Match: Match{Prefix: "/"}, Policy: Policy{Topic: "leads"}},
		{Name: "late", Match: Match{Path: "/a"}, Policy: Policy{Topic: "t"}},
	}})
	got := table.Explain(&Request{
		Method: "POST", Authority: "a.example:80", Path: "/a?b",
		Headers: [][2]string{{"x-a", "1"}, {"x-b", ""}, {"x-a", "2"}},
	})
	want := []Step{
		{"path", false, whole, `path "/a" is not "/other"`},
		{"prefix", false, whole, `path "/a" does not begin with "/other/"`},
		{"regex", false, whole, `path "/a" is not as safe_regex "/[0-9]+" wants it, as a whole`},
		{"method", false, whole, `method POST is not PUT or PATCH`},
		{"host", false, whole, `host "a.example" is not shop.example or *.b or c.* or [::1]`},
		{"absent", false, whole, `header x-none is absent`},
		{"present", false, whole, `header x-a is present`},
		{"exact", false, whole, `header x-a is "1" and "2", not "3"`},
		{"begins", false, whole, `header x-a is "1" and "2", and does not begin with "1,"`},
		{"fits", false, whole, `header x-a is "1" and "2", not as safe_regex "[a-z]" wants it, as a whole`},
		{"parameter", false, whole, `query parameter b is "", not "1"`},
		{"template", false, whole, `path "/a" is not of path_template "/{a}/b"`},
		{"some", true, 5_000, `copies 0.5% of such requests: topic t`},
		{"taker", true, whole, `takes the request: topic leads`},
		{"late", true, whole, `would match too, but taker comes first`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
