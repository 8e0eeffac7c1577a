package source

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/marceloboeira/crowd/xds/route"
)

const (
	leads  = "routes: [{name: leads, match: {path: /leads}, topic: leads}]\n"
	track  = "routes: [{name: track, match: {prefix: /track/}, topic: tracking}]\n"
	broken = "routes: [{name: leads, match: {path: /leads}, topic: leads, surprise: 1, max_body: huge}]\n"
)

// following is a Source that runs in a test.
type following struct {
	*Source
	path    string
	changes <-chan string // the name of the first route of every version that was passed on
	errors  <-chan string // every error logged
}

// follow starts a Source on path. Its accept refuses a document whose first route is called "refused".
func follow(t *testing.T, path string, recheck time.Duration) following {
	t.Helper()
	logged := make(chan string, 100)
	s, config, err := New(path, slog.New(errorLog{logged}), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Routes[0].Name; got != "leads" {
		t.Fatalf("first route at the start: %s, want leads", got)
	}
	s.recheck = recheck

	changes := make(chan string, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx, func(c route.Config) error {
			if c.Routes[0].Name == "refused" {
				return errors.New("refused here")
			}
			changes <- c.Routes[0].Name
			return nil
		})
	}()
	t.Cleanup(func() { stop(); <-ended })
	return following{Source: s, path: path, changes: changes, errors: logged}
}

// errorLog hands on the errors among the log records, as text.
type errorLog struct{ to chan<- string }

func (l errorLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (l errorLog) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l errorLog) WithGroup(string) slog.Handler                    { return l }

func (l errorLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		l.to <- a.Value.String()
		return true
	})
	return nil
}

func receive(t *testing.T, from <-chan string) string {
	t.Helper()
	select {
	case s := <-from:
		return s
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
		return ""
	}
}

func (f following) wantChange(t *testing.T, want string) {
	t.Helper()
	if got := receive(t, f.changes); got != want {
		t.Errorf("first route: %s, want %s", got, want)
	}
}

func (f following) wantError(t *testing.T, want string) {
	t.Helper()
	if got := receive(t, f.errors); !strings.Contains(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace renames a new file over path, as editors do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, leads)
	f := follow(t, path, time.Hour)

	write(t, path, track)
	f.wantChange(t, "track")
	replace(t, path, leads)
	f.wantChange(t, "leads")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.wantError(t, "no such file")
	write(t, path, track)
	f.wantChange(t, "track")
}

// A version that is broken or refused is reported and never passed on; the one that follows is.
func TestRejected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, leads)
	f := follow(t, path, time.Hour)

	replace(t, path, broken)
	f.wantError(t, path+":1:")
	f.wantError(t, path+":1:")
	if got := testutil.ToFloat64(f.valid); got != 0 {
		t.Errorf("valid = %v, want 0", got)
	}
	replace(t, path, strings.ReplaceAll(leads, "leads", "refused"))
	f.wantError(t, "refused here")
	replace(t, path, track)
	f.wantChange(t, "track")

	// The counters are written after the change is passed on: wait for the loop to come round again.
	replace(t, path, leads)
	f.wantChange(t, "leads")
	if got := testutil.ToFloat64(f.rejected); got != 2 {
		t.Errorf("rejected = %v, want 2", got)
	}
	if got := testutil.ToFloat64(f.accepted); got < 1 {
		t.Errorf("accepted = %v, want at least 1", got)
	}
}

// Kubernetes mounts a ConfigMap as links: routes.yaml -> ..data/routes.yaml, ..data -> a directory of one version.
func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "routes.yaml"), text)
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..v1", leads)
	path := filepath.Join(dir, "routes.yaml")
	if err := os.Symlink(filepath.Join("..data", "routes.yaml"), path); err != nil {
		t.Fatal(err)
	}
	f := follow(t, path, time.Hour)

	version("..v2", track)
	if err := os.RemoveAll(filepath.Join(dir, "..v1")); err != nil {
		t.Fatal(err)
	}
	f.wantChange(t, "track")
}

// A link may lead to another directory.
func TestLink(t *testing.T) {
	target := filepath.Join(t.TempDir(), "real.yaml")
	write(t, target, leads)
	path := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	f := follow(t, path, time.Hour)
	write(t, target, track)
	f.wantChange(t, "track")
	replace(t, target, leads)
	f.wantChange(t, "leads")
}

// What is written in place is looked at when it has been left alone for a while, and not in the middle.
func TestAfter(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct {
		name string
		op   fsnotify.Op
		own  bool
		due  time.Time
		want time.Time
	}{
		{"replaced", fsnotify.Create, true, time.Time{}, at(50)},
		{"something beside it replaced, such as a link", fsnotify.Create, false, time.Time{}, at(50)},
		{"again", fsnotify.Create, true, at(20), at(20)},
		{"written", fsnotify.Write, true, time.Time{}, at(300)},
		{"written on", fsnotify.Write, true, at(20), at(300)},
		{"created and now written", fsnotify.Write, true, at(49), at(300)},
		{"written and now its mode changed", fsnotify.Chmod, true, at(250), at(250)},
		{"another file written", fsnotify.Write, false, time.Time{}, time.Time{}},
		{"another file written meanwhile", fsnotify.Write, false, at(250), at(250)},
	} {
		if got := after(fsnotify.Event{Op: c.op}, c.own, c.due, start); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got.Sub(start), c.want.Sub(start))
		}
	}
}

// A directory that takes another's place is not the one watched; looking finds the change, and watching goes on.
func TestDirectoryReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config")
	path := filepath.Join(dir, "routes.yaml")
	mkdir := func() {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mkdir()
	write(t, path, leads)
	f := follow(t, path, time.Millisecond)

	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	mkdir()
	replace(t, path, track)
	f.wantChange(t, "track")
	replace(t, path, leads)
	f.wantChange(t, "leads")
}

func TestNewFails(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "broken.yaml"), broken)
	tests := []struct{ path, want string }{
		{filepath.Join(dir, "broken.yaml"), "surprise"},
		{filepath.Join(dir, "missing.yaml"), "read routes: "},
		{filepath.Join(dir, "missing", "routes.yaml"), "watch routes: "},
	}
	for _, tt := range tests {
		_, _, err := New(tt.path, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%s): %v, want %q", tt.path, err, tt.want)
		}
	}
}
