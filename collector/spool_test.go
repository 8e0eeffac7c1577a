package collector

import (
	"context"
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/internal/spool"
	"github.com/marceloboeira/crowd/collector/record"
)

// madeSpool returns a spool of two entries, and a third of which a record was set aside.
func madeSpool(t *testing.T) string {
	dir := t.TempDir()
	s, err := spool.Open(spool.Config{Dir: dir, MaxBytes: 8 << 20, MaxMemoryBytes: 1 << 20}, slog.New(slog.DiscardHandler),
		prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(n byte, topic string) []byte {
		r := record.Record{
			ID: record.ID{n}, Received: time.Unix(1_700_000_000, 5), Route: "a route", Topic: topic, Method: "POST",
			Path: "/a\x1b[2J", Body: make([]byte, n),
		}
		return r.Append(nil)
	}
	uplink := record.UplinkID{0xab}
	for _, e := range []spool.Entry{
		{Uplink: uplink, Sequence: 1, Topic: "leads", Records: [][]byte{encoded(1, "leads"), encoded(2, "leads")}},
		{Uplink: uplink, Sequence: 2, Topic: "orders", Redelivered: true, Records: [][]byte{encoded(3, "orders")}},
		{Uplink: uplink, Sequence: 3, Topic: "poison", Records: [][]byte{encoded(4, "poison"), encoded(5, "poison")}},
	} {
		stored := make(chan error)
		s.Append(e, func(err error) { stored <- err })
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	refused := make(chan struct{})
	s.Deliver(func(e *spool.Entry, done func([]spool.Undeliverable)) {
		if e.Topic == "poison" {
			done([]spool.Undeliverable{{Index: 1, Reason: "nobody takes it"}})
			close(refused)
		}
	})
	<-refused
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if left, err := s.Close(ctx); left != 2 || err != nil {
		t.Fatalf("%d left, %v", left, err)
	}
	return dir
}

func TestDumpSpool(t *testing.T) {
	dir := madeSpool(t)
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		dump SpoolDump
		want string
	}{
		{SpoolDump{}, `topic "leads", entry ID: stored TIME, uplink ab000000000000000000000000000000, sequence 1
  01000000-0000-0000-0000-000000000000 2023-11-14T22:13:20.000000005Z route "a route": "POST" "/a\x1b[2J", 1 bytes
  02000000-0000-0000-0000-000000000000 2023-11-14T22:13:20.000000005Z route "a route": "POST" "/a\x1b[2J", 2 bytes
topic "orders", entry ID: stored TIME, uplink ab000000000000000000000000000000, sequence 2, redelivered
  03000000-0000-0000-0000-000000000000 2023-11-14T22:13:20.000000005Z route "a route": "POST" "/a\x1b[2J", 3 bytes
`},
		{SpoolDump{SetAside: true}, `topic "poison", entry ID: stored TIME, uplink ab000000000000000000000000000000, sequence 3
  set aside: "nobody takes it"
  05000000-0000-0000-0000-000000000000 2023-11-14T22:13:20.000000005Z route "a route": "POST" "/a\x1b[2J", 5 bytes
`},
	} {
		var out strings.Builder
		if err := DumpSpool(dir, &out, c.dump, log); err != nil {
			t.Fatal(err)
		}
		got := regexp.MustCompile(`entry \d+: stored \S+,`).ReplaceAllString(out.String(), "entry ID: stored TIME,")
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.dump, diff)
		}
		out.Reset()
		c.dump.JSON = true
		if err := DumpSpool(dir, &out, c.dump, log); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for line := range strings.Lines(out.String()) {
			var e dumpedEntry
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Error(err)
			}
			lines++
			if e.Topic == "" || len(e.Records) == 0 || e.Records[0].Path != "/a\x1b[2J" ||
				time.Since(e.Stored) > time.Hour {
				t.Errorf("as JSON: %s", line)
			}
		}
		if want := strings.Count(c.want, "stored TIME"); lines != want {
			t.Errorf("%d lines of JSON, want %d", lines, want)
		}
	}
}

func TestVerifySpool(t *testing.T) {
	dir := madeSpool(t)
	log := slog.New(slog.DiscardHandler)
	var out strings.Builder
	if err := VerifySpool(dir, &out, log); err != nil {
		t.Error(err)
	}
	if want := dir + ": 2 entries with 3 records for 2 topics, and 1 set aside\n"; out.String() != want {
		t.Errorf("says %q, want %q", &out, want)
	}

	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	it.First()
	it.Next() // behind the key that says that there is an index
	value := append([]byte{}, it.Value()...)
	value[40] ^= 1
	if err := db.Set(it.Key(), value, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte("what is this?"), nil, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := VerifySpool(dir, &out, log); err == nil || !strings.Contains(err.Error(), "2 entries are not valid") {
		t.Errorf("a damaged spool: %v", err)
	}
	for _, want := range []string{`topic "leads", entry`, "CRC-32C", `not a key of a spool: "what is this?"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("says %q, want %q in it", &out, want)
		}
	}
	out.Reset()
	if err := DumpSpool(dir, &out, SpoolDump{}, log); err != nil || !strings.Contains(out.String(), "problem: ") {
		t.Errorf("dump says %q, %v", &out, err)
	}
}

// quiet is a logger that says nothing.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}
