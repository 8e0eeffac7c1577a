package replay

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/xds/route"
)

// parsed puts flags over a configuration.
func parsed(t *testing.T, c Config, args ...string) Config {
	t.Helper()
	f := flag.NewFlagSet("replay", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	c.AddFlags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFlags(t *testing.T) {
	got := parsed(t, Config{}, "--kafka", "a:1,b:2", "--kafka", "c:3", "--group", "g", "--topic", "x,y", "--target", "https://api",
		"--rate", "300/m", "--concurrency", "7", "--key-rate", "1", "--order", "none", "--protocol", "http2", "--adaptive", "--timeout", "5s",
		"--max-attempts", "3", "--max-age", "1h", "--dead-letter-topic", "dead", "--from-dead-letter", "--since", "2h", "--until", "1h",
		"--filter", "route=r", "--filter", "key=k=1", "--filter", "header=x-a: 1", "--filter", "header=x-b", "--mirrored",
		"--admin", ":1", "--drain-timeout", "1s", "--kafka-config", "p", "--tls-ca", "ca", "--tls-cert", "cert", "--tls-key", "key")
	want := Config{
		Kafka: []string{"a:1", "b:2", "c:3"}, KafkaConfig: "p", Group: "g", Topics: []string{"x", "y"}, FromDeadLetter: true,
		Since: "2h", Until: "1h", Mirrored: true, Target: "https://api", Protocol: ProtocolHTTP2, TLS: TLS{CA: "ca", Cert: "cert", Key: "key"},
		Filter: Filter{Routes: []string{"r"}, Keys: []string{"k=1"}, Match: &route.Match{
			Headers: []route.ValueMatch{{Name: "x-a", Exact: new("1")}, {Name: "x-b"}},
		}},
		Timeout: route.Duration(5 * time.Second), Order: OrderNone,
		Limits: Limits{Rate: new(Rate(5)), Concurrency: 7, KeyRate: new(Rate(1)), Adaptive: true},
		Retry:  Retry{MaxAttempts: 3, MaxAge: route.Duration(time.Hour)}, DeadLetterTopic: "dead", Admin: ":1",
		DrainTimeout: route.Duration(time.Second),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := got.check(); err != nil {
		t.Error(err)
	}
}

// What flags do not say stays; lists are replaced as a whole.
func TestFlagsGoFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "replay.yaml")
	text := "kafka: [file:1]\ngroup: file\ntopics: [a, b]\ntarget: http://file\nrate: 1\nadaptive: true\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	over := func(c *Config) { *c = parsed(t, *c, "--topic", "c", "--rate", "unlimited", "--adaptive=false") }
	got, err := Source{path, over}.Load()
	if err != nil {
		t.Fatal(err)
	}
	if got.Group != "file" || !cmp.Equal(got.Topics, []string{"c"}) || *got.Rate != Unlimited || got.Adaptive {
		t.Errorf("%+v", got)
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--rate", "fast"}, {"--rate", "-1"}, {"--concurrency", "0"}, {"--concurrency", "1x"}, {"--order", "any"}, {"--filter", "x"},
		{"--filter", "path=/"}, {"--timeout", "5"}, {"--protocol", "http3"}, {"--max-attempts", "-1"},
	} {
		f := flag.NewFlagSet("replay", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		new(Config).AddFlags(f)
		if err := f.Parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

// Without a file, what is wrong is a flag.
func TestErrorsNameFlags(t *testing.T) {
	_, err := Source{Flags: func(c *Config) {
		*c = Config{Target: "http://a", TLS: TLS{CA: "x"}, Filter: Filter{Routes: []string{""}}, Retry: Retry{MaxAttempts: -1}}
	}}.Load()
	for _, want := range []string{"--kafka: is missing", "--topic: is missing", "--tls-ca: means", "--filter: is empty", "--max-attempts: is -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}
