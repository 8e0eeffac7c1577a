package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	changes <-chan string // the names of the routes of every version that was passed on
	errors  <-chan string // every error logged
}

// follow starts a Source on path. Its accept refuses a document whose first route is called "refused".
func follow(t *testing.T, path string, recheck time.Duration) following {
	t.Helper()
	logged := make(chan string, 100)
	s, err := New("shop", path, slog.New(errorLog{logged}), NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	config, err := s.First()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Routes[0].Name; got != "leads" {
		t.Fatalf("first route at the start: %s, want leads", got)
	}
	s.recheck = recheck
	changes, stop := run(s)
	t.Cleanup(stop)
	return following{Source: s, path: path, changes: changes, errors: logged}
}

// run runs s until stop, and returns the names of the routes of every version that it passes on, with spaces between.
func run(s *Source) (changes <-chan string, stop func()) {
	passed := make(chan string, 100)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx, func(c route.Config) error {
			if c.Routes[0].Name == "refused" {
				return errors.New("refused here")
			}
			passed <- names(c)
			return nil
		})
	}()
	return passed, func() { cancel(); <-ended }
}

func names(c route.Config) string {
	var all []string
	for _, r := range c.Routes {
		all = append(all, r.Name)
	}
	return strings.Join(all, " ")
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
		t.Errorf("routes: %s, want %s", got, want)
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
	if got := testutil.ToFloat64(f.metrics.valid); got != 0 {
		t.Errorf("valid = %v, want 0", got)
	}
	replace(t, path, strings.ReplaceAll(leads, "leads", "refused"))
	f.wantError(t, "refused here")
	replace(t, path, track)
	f.wantChange(t, "track")

	// The counters are written after the change is passed on: wait for the loop to come round again.
	replace(t, path, leads)
	f.wantChange(t, "leads")
	if got := testutil.ToFloat64(f.metrics.rejected); got != 2 {
		t.Errorf("rejected = %v, want 2", got)
	}
	if got := testutil.ToFloat64(f.metrics.accepted); got < 1 {
		t.Errorf("accepted = %v, want at least 1", got)
	}
}

// configMap is a directory as Kubernetes mounts a ConfigMap: NAME -> ..data/NAME, ..data -> a directory of one version.
func configMap(t *testing.T, dir, version string, files map[string]string) {
	t.Helper()
	before, _ := os.Readlink(filepath.Join(dir, "..data"))
	must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
	for name, text := range files {
		write(t, filepath.Join(dir, version, name), text)
	}
	must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	if before != "" {
		must(t, os.RemoveAll(filepath.Join(dir, before)))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	configMap(t, dir, "..v1", map[string]string{"routes.yaml": leads})
	f := follow(t, filepath.Join(dir, "routes.yaml"), time.Hour)
	configMap(t, dir, "..v2", map[string]string{"routes.yaml": track})
	f.wantChange(t, "track")
	configMap(t, dir, "..v3", map[string]string{"routes.yaml": leads})
	f.wantChange(t, "leads")
}

// Files come, go and change; what is no routes file means nothing.
func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "10-leads.yaml"), filepath.Join(dir, "20-track.yml")
	write(t, first, leads)
	f := follow(t, dir, time.Hour)

	write(t, second, track)
	f.wantChange(t, "leads track")
	replace(t, first, strings.ReplaceAll(leads, "leads", "orders"))
	f.wantChange(t, "orders track")
	for _, name := range []string{"README.md", ".10-leads.yaml.swp", "..hidden.yaml", "30.yaml~"} {
		write(t, filepath.Join(dir, name), broken)
	}
	must(t, os.Mkdir(filepath.Join(dir, "40.yaml"), 0o700))
	must(t, os.Remove(second))
	f.wantChange(t, "orders")

	write(t, second, broken)
	f.wantError(t, second+":1:")
	f.wantError(t, second+":1:")
	write(t, second, track)
	f.wantChange(t, "orders track")
	must(t, os.Rename(second, filepath.Join(dir, "00.json")))
	f.wantChange(t, "track orders")
	must(t, os.Remove(first))
	f.wantChange(t, "track")
	must(t, os.Remove(filepath.Join(dir, "00.json")))
	f.wantError(t, "no routes files in "+dir)
}

func TestDirectoryOfAConfigMap(t *testing.T) {
	dir := t.TempDir()
	configMap(t, dir, "..v1", map[string]string{"a.yaml": leads})
	f := follow(t, dir, time.Hour)
	configMap(t, dir, "..v2", map[string]string{"a.yaml": track})
	f.wantChange(t, "track")
	configMap(t, dir, "..v3", map[string]string{"a.yaml": track, "b.yaml": leads})
	f.wantChange(t, "track leads")
}

// A link to a directory leads to another one.
func TestDirectorySwapped(t *testing.T) {
	dir := t.TempDir()
	for version, text := range map[string]string{"v1": leads, "v2": track} {
		must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		write(t, filepath.Join(dir, version, "routes.yaml"), text)
	}
	path := filepath.Join(dir, "routes")
	must(t, os.Symlink("v1", path))
	f := follow(t, path, time.Hour)
	must(t, os.Symlink("v2", path+".new"))
	must(t, os.Rename(path+".new", path))
	f.wantChange(t, "track")
	replace(t, filepath.Join(dir, "v2", "routes.yaml"), leads)
	f.wantChange(t, "leads")
}

// However fast versions follow each other, files of two are never taken for one.
func TestVersionsAreNotMixed(t *testing.T) {
	const versions = 200
	dir := t.TempDir()
	version := func(n int) {
		text := func(file string) string {
			return strings.ReplaceAll(leads, "leads,", fmt.Sprintf("v%d-%s,", n, file))
		}
		configMap(t, dir, fmt.Sprintf("..v%d", n), map[string]string{"a.yaml": text("a"), "b.yaml": text("b"), "c.yaml": text("c")})
	}
	version(0)
	s, err := New("shop", dir, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
	must(t, err)
	s.recheck = time.Millisecond
	_, err = s.First()
	must(t, err)
	changes, stop := run(s)
	defer stop()
	for n := range versions {
		version(n + 1)
	}
	for seen := 1; ; seen++ {
		got := receive(t, changes)
		v, _, _ := strings.Cut(got, "-")
		if want := fmt.Sprintf("%[1]s-a %[1]s-b %[1]s-c", v); got != want {
			t.Fatalf("files of several versions: %s", got)
		}
		if v == fmt.Sprintf("v%d", versions) {
			t.Logf("%d of %d versions seen", seen, versions)
			return
		}
	}
}

// A Source may begin with nothing there, and finds what comes.
func TestNothingAtFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "later", "routes.yaml")
	metrics := NewMetrics(prometheus.NewRegistry())
	s, err := New("shop", path, slog.New(slog.DiscardHandler), metrics)
	must(t, err)
	s.recheck = time.Millisecond
	_, err = s.First()
	if err == nil {
		t.Fatal("routes without a file")
	}
	s.Reject(err)
	changes, stop := run(s)
	defer stop()
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	replace(t, path, leads)
	if got := receive(t, changes); got != "leads" {
		t.Errorf("routes: %s", got)
	}
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

func TestFirstFails(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "broken.yaml"), broken)
	must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o700))
	tests := []struct{ path, want string }{
		{filepath.Join(dir, "broken.yaml"), "surprise"},
		{filepath.Join(dir, "missing.yaml"), "read routes: "},
		{filepath.Join(dir, "missing", "routes.yaml"), "read routes: "},
		{filepath.Join(dir, "empty"), "no routes files in "},
	}
	for _, tt := range tests {
		s, err := New("shop", tt.path, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
		must(t, err)
		if _, err = s.First(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("First of %s: %v, want %q", tt.path, err, tt.want)
		}
		s.Close()
	}
}
