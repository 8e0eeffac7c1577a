package replay

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

const small = "kafka: [a:1]\ngroup: g\ntopics: [t]\ntarget: http://a\nrate: 50\n"

// following runs follow on a file in a bubble until the test's end.
type following struct {
	t    *testing.T
	path string

	mu  sync.Mutex
	set []flow.Limits
	log bytes.Buffer
}

// Write takes what is logged.
func (f *following) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.Write(line)
}

func (f *following) setLimits(l flow.Limits) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set = append(f.set, l)
}

func startFollowing(t *testing.T, text string, over func(*Config)) *following {
	t.Helper()
	f := &following{t: t, path: filepath.Join(t.TempDir(), "replay.yaml")}
	f.write(text)
	source := Source{f.path, over}
	c, err := source.Load()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		follow(ctx, c.withDefaults(), source, f.setLimits, log)
	}()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return f
}

func (f *following) write(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// limits are those set since the last call.
func (f *following) limits() []flow.Limits {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.set = nil }()
	return f.set
}

func (f *following) rates() (rates []float64) {
	for _, l := range f.limits() {
		rates = append(rates, l.Rate)
	}
	return rates
}

// logged is what has been since the last call.
func (f *following) logged() string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.log.Reset()
	return strings.ReplaceAll(f.log.String(), f.path, "FILE")
}

func TestFollowTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFollowing(t, small, nil)
		const changed = `level=INFO msg="limits changed" rate=60 concurrency=10 key_rate=unlimited route_rates=map[] adaptive=false` + "\n"
		for i, step := range []struct {
			text  string
			wait  time.Duration
			rates []float64
			log   string
		}{
			{small, 0, []float64{50}, ""},
			{small, 5 * time.Second, nil, ""},
			{strings.Replace(small, "50", "60", 1), followInterval, nil, ""}, // seen, and left alone
			{strings.Replace(small, "50", "60", 1), followInterval, []float64{60}, changed},
			{small[:20], followInterval, nil, ""}, // half written
			{strings.Replace(small, "50", "60", 1), 3 * followInterval, nil, ""},
			{small + "concurrency: many\n", 10 * followInterval, nil, "level=ERROR msg=\"configuration not taken, the last good one stays\" error=\"FILE:6:14: concurrency: is text (allowed: a number)\"\n"},
			{small + "timeout: 5s\nretry: {max_attempts: 5}\n", 10 * followInterval, []float64{50}, "level=WARN msg=\"changed in the configuration, and taken with the next start only\" fields=\"timeout, retry.max_attempts\"\n" + strings.Replace(changed, "60", "50", 1)},
			{small + "route_rates: [{route: a, rate: 5}]\n", 10 * followInterval, []float64{50}, strings.NewReplacer("60", "50", "map[]", "map[a:5]").Replace(changed)},
			{"", 10 * followInterval, nil, "level=ERROR msg=\"configuration not taken, the last good one stays\" error=\"FILE:1:1: the document is empty (allowed: " + strings.Join(fields(), ", ") + ")\"\n"},
		} {
			f.write(step.text)
			time.Sleep(step.wait)
			if got := f.rates(); !slices.Equal(got, step.rates) {
				t.Errorf("step %d: rates %v, want %v", i, got, step.rates)
			}
			if diff := cmp.Diff(step.log, f.logged()); diff != "" {
				t.Errorf("step %d: log (-want +got):\n%s", i, diff)
			}
		}
		if err := os.Remove(f.path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * followInterval)
		const gone = "level=ERROR msg=\"configuration not read, the last good one stays\" error=\"open FILE: no such file or directory\"\n"
		if diff := cmp.Diff(gone, f.logged()); diff != "" {
			t.Errorf("gone: log (-want +got):\n%s", diff)
		}
		f.write(strings.Replace(small, "50", "70", 1))
		time.Sleep(2 * followInterval)
		if got := f.rates(); !slices.Equal(got, []float64{70}) {
			t.Errorf("back again: rates %v", got)
		}
	})
}

// fields are the names of a configuration's.
func fields() []string {
	_, err := Source{File: "FILE"}.parse([]byte("x: 1"))
	_, names, _ := strings.Cut(err.Error(), "x: unknown field (allowed: ")
	names, _, _ = strings.Cut(names, ")")
	return strings.Split(names, ", ")
}

// A flag goes before the file, also when that changes.
func TestFlagsStayOverTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFollowing(t, small, func(c *Config) { c.Rate = new(Rate(5)) })
		f.write(strings.Replace(small, "50", "60", 1) + "concurrency: 7\n")
		time.Sleep(3 * followInterval)
		if set := f.limits(); len(set) != 2 || set[1].Rate != 5 || set[1].Concurrency != 7 {
			t.Errorf("%+v", set)
		}
	})
}

func TestFollowTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // from 2000-01-01T00:00:00Z on
		f := startFollowing(t, small+"schedule: [{from: \"00:01\", to: \"00:02\", rate: 5}]\n", nil)
		time.Sleep(time.Minute - time.Second)
		if got := f.rates(); !slices.Equal(got, []float64{50}) {
			t.Errorf("before the window: %v", got)
		}
		time.Sleep(time.Second)
		if got := f.rates(); !slices.Equal(got, []float64{5}) {
			t.Errorf("in the window: %v", got)
		}
		time.Sleep(time.Hour)
		if got := f.rates(); !slices.Equal(got, []float64{50}) {
			t.Errorf("after it: %v", got)
		}
	})
}
