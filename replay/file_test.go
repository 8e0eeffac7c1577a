package replay

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/xds/route"
	"github.com/marceloboeira/crowd/xds/route/routefile"
)

var update = flag.Bool("update", false, "rewrite the expected errors in testdata")

// separator stands between a file and the errors that it must give, one a line.
const separator = "=== errors\n"

func TestErrors(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text, want, _ := strings.Cut(string(content), separator)
			_, err = Source{File: "replay.yaml"}.parse([]byte(text))
			if err == nil {
				t.Fatal("no error")
			}
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(path, []byte(text+separator+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

// whole gives every field.
const whole = `
kafka: [kafka-1:9092, kafka-2:9092]
kafka_config: client.properties
group: leads-to-crm
topics: [leads, orders]
from_dead_letter: true
since: 2026-11-28T09:00:00Z
until: 5m
filter:
  routes: [leads]
  keys: ["42", ""]
  match: {methods: [POST], headers: [{name: x-tenant, exact: a}]}
mirrored: true
target: https://crm.example:8443/api
protocol: http2
tls: {ca: ca.pem, cert: /etc/cert.pem, key: keys/key.pem, server_name: crm}
timeout: 10s
rewrite:
  host_rewrite_literal: crm.example
  path_rewrites: [{pattern: "^/v1/(.*)$", substitution: '/v2/\1'}]
  request_headers:
    set: [{name: authorization, file: token}, {name: x-a, value: b}]
    remove: [cookie]
rate: 50
concurrency: 20
key_rate: 1/m
route_rates: [{route: leads, rate: 10/s}]
adaptive: true
schedule:
  - {days: [mon, fri], from: 22:00, to: 06:00, rate: unlimited, concurrency: 50}
  - {from: "00:00", to: "00:01", rate: 0}
time_zone: Europe/Berlin
order: partition
expected_statuses: [2xx, 409]
retry: {retriable_status_codes: [500-504], max_attempts: 3, max_age: 24h, initial_backoff: 1s, max_backoff: 10s}
circuit_breaker: {failures: 5, of: 10, delay: 1s, max_delay: 1m}
dead_letter_topic: dead
max_buffer_bytes: 1GiB
admin: 127.0.0.1:9003
drain_timeout: 5s
`

func TestParse(t *testing.T) {
	got, err := Source{File: filepath.Join("config", "replay.yaml")}.parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	seconds := func(n time.Duration) route.Duration { return route.Duration(n * time.Second) }
	want := Config{
		Kafka: []string{"kafka-1:9092", "kafka-2:9092"}, KafkaConfig: filepath.Join("config", "client.properties"),
		Group: "leads-to-crm", Topics: []string{"leads", "orders"}, FromDeadLetter: true, Since: "2026-11-28T09:00:00Z", Until: "5m",
		Filter: Filter{
			Routes: []string{"leads"}, Keys: []string{"42", ""},
			Match: &route.Match{Methods: []string{"POST"}, Headers: []route.ValueMatch{{Name: "x-tenant", Exact: new("a")}}},
		},
		Mirrored: true, Target: "https://crm.example:8443/api", Protocol: ProtocolHTTP2,
		TLS:     TLS{CA: filepath.Join("config", "ca.pem"), Cert: "/etc/cert.pem", Key: filepath.Join("config", "keys", "key.pem"), ServerName: "crm"},
		Timeout: seconds(10),
		Rewrite: Rewrite{
			HostRewriteLiteral: "crm.example", PathRewrites: []RegexRewrite{{`^/v1/(.*)$`, `/v2/\1`}},
			RequestHeaders: HeaderRewrite{[]SetHeader{{Name: "authorization", File: filepath.Join("config", "token")}, {Name: "x-a", Value: "b"}}, []string{"cookie"}},
		},
		Limits: Limits{
			Rate: new(Rate(50)), Concurrency: 20, KeyRate: new(Rate(1. / 60)), RouteRates: []RouteRate{{"leads", new(Rate(10))}}, Adaptive: true,
			Schedule: []Window{
				{Days: []Weekday{"mon", "fri"}, From: new(TimeOfDay(22 * time.Hour)), To: new(TimeOfDay(6 * time.Hour)), Rate: &Unlimited, Concurrency: 50},
				{From: new(TimeOfDay(0)), To: new(TimeOfDay(time.Minute)), Rate: new(Rate(0))},
			},
			TimeZone: "Europe/Berlin",
		},
		Order: OrderPartition, ExpectedStatuses: []Statuses{{200, 299}, {409, 409}},
		Retry:          Retry{[]Statuses{{500, 504}}, 3, seconds(24 * 3600), seconds(1), seconds(10)},
		CircuitBreaker: CircuitBreaker{5, 10, seconds(1), seconds(60)}, DeadLetterTopic: "dead",
		MaxBufferBytes: 1 << 30, Admin: "127.0.0.1:9003", DrainTimeout: seconds(5),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(got, got.withDefaults()); diff != "" {
		t.Errorf("defaults replace what is given (-given +got):\n%s", diff)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "replay.yaml")
	if _, err := (Source{File: path}).Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("rate: 50\nconcurrency: 7\ntls: {ca: ca.pem}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Source{File: path}).Load(); !errors.As(err, new(routefile.Errors)) {
		t.Errorf("a part alone: %v", err)
	}
	c, err := Source{path, func(c *Config) {
		c.Kafka, c.Group, c.Topics, c.Target, c.Rate = []string{"a:1"}, "g", []string{"t"}, "https://a", new(Rate(5))
	}}.Load()
	if err != nil || *c.Rate != 5 || c.Concurrency != 7 || c.TLS.CA != filepath.Join(filepath.Dir(path), "ca.pem") {
		t.Errorf("a part with flags: %+v, %v", c, err)
	}
	_, err = Source{path, func(c *Config) {
		c.Kafka, c.Group, c.Target = []string{"a:1"}, "g", "http://a"
	}}.Load()
	const want = "topics: is missing (allowed: at least one topic)\n" +
		"tls.ca: means nothing for http (allowed: a target with https, or leave it out)"
	if err == nil || err.Error() != want {
		t.Errorf("flags that do not fit: %v\nwant %s", err, want)
	}
	if err := os.WriteFile(path, []byte("concurrency: -7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Source{path, func(*Config) {}}).Load(); err == nil || err.Error() != path+":1:14: concurrency: is -7 (allowed: 1 to 10000)" {
		t.Errorf("a part that is wrong: %v", err)
	}
}

// Whatever a file holds, it is taken whole or refused with every error at its place; what is taken works.
func FuzzConfig(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, int64(0))
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		text, _, _ := strings.Cut(string(content), separator)
		f.Add(text, int64(1_800_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		c, err := Source{File: "replay.yaml"}.parse([]byte(text))
		if err != nil {
			all := routefile.Errors(nil)
			if !errors.As(err, &all) {
				t.Fatalf("%v", err)
			}
			for _, problem := range all {
				if problem.File != "replay.yaml" || problem.Line < 1 || problem.Column < 1 || problem.Message == "" || strings.Contains(problem.Message, "\n") {
					t.Errorf("%+v", problem)
				}
			}
			return
		}
		full := c.withDefaults()
		if errs := full.Validate(); errs != nil {
			t.Errorf("valid, and not with its defaults: %v", errs)
		}
		sending := full.request(nil)
		if sending.Timeout <= 0 || sending.HTTP1 == sending.HTTP2 && !sending.HTTP1 {
			t.Errorf("%+v", sending)
		}
		full.Filter.wanted()
		if limits := newSchedule(full.Limits).at(time.Unix(at%1e11, 0)); !(limits.Rate >= 0) || limits.Concurrency < 1 || !(limits.KeyRate > 0) {
			t.Errorf("%+v", limits)
		}
	})
}
