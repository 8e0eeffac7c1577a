// Package source follows a routes file and passes on every valid version of it.
package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/marceloboeira/crowd/xds/route"
	"github.com/marceloboeira/crowd/xds/route/routefile"
)

const (
	// settleTime lets a change finish that comes as several events, such as removing and renaming.
	settleTime = 50 * time.Millisecond
	// writeTime is how long a file that is written in place must have been left alone: half of one may be valid too.
	writeTime = 300 * time.Millisecond
	// recheckInterval is how late a change may be noticed that makes no event: on a network file system another
	// host made it, or the directory was replaced and is no longer the one watched.
	recheckInterval = 10 * time.Second
)

// Source follows one file. It watches the file's directory, because editors rename a new file over the old one and
// Kubernetes swaps a symbolic link beside the file of a ConfigMap; and where the path is a link, the directory that the
// file is really in.
type Source struct {
	path    string
	target  string // the path without links; empty while there is no such file
	log     *slog.Logger
	watcher *fsnotify.Watcher
	recheck time.Duration
	// seen is what the file held when it was last looked at, or why it could not be read.
	seen string

	accepted, rejected prometheus.Counter
	valid              prometheus.Gauge
}

// New reads the file and begins to watch its directory; Run goes on from there. It fails when the file is not a
// valid routes document, with all that is wrong in it.
func New(path string, log *slog.Logger, reg prometheus.Registerer) (*Source, route.Config, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, route.Config{}, fmt.Errorf("watch routes: %w", err)
	}
	s := &Source{path: path, log: log.With("file", path), watcher: watcher, recheck: recheckInterval}
	// Watched before it is read, so that no change falls between.
	config, err := s.first()
	if err != nil {
		watcher.Close()
		return nil, route.Config{}, err
	}

	reloads := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "crowd_xds_config_reloads_total",
		Help: "Changes of the routes file by result: accepted, or rejected with the last good one kept.",
	}, []string{"result"})
	s.accepted, s.rejected = reloads.WithLabelValues("accepted"), reloads.WithLabelValues("rejected")
	s.valid = promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "crowd_xds_config_valid",
		Help: "1 while the routes file is what is served, 0 while it is broken and an earlier one is served.",
	})
	s.valid.Set(1)
	return s, config, nil
}

func (s *Source) first() (route.Config, error) {
	if err := s.watch(); err != nil {
		return route.Config{}, fmt.Errorf("watch routes: %w", err)
	}
	data, _, err := s.read()
	if err != nil {
		return route.Config{}, err
	}
	return s.parse(data)
}

// Close ends the watch of a Source that is not Run.
func (s *Source) Close() { s.watcher.Close() }

// Run passes every later valid version to accept, one at a time, until ctx ends. What is not valid, or what accept
// refuses, is logged with all that is wrong, and counted.
func (s *Source) Run(ctx context.Context, accept func(route.Config) error) {
	defer s.watcher.Close()
	recheck := time.NewTicker(s.recheck)
	defer recheck.Stop()
	var due time.Time            // when to look, after an event
	var settled <-chan time.Time // then
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.watcher.Events:
			if next := after(e, s.isFile(e.Name), due, time.Now()); next != due {
				due, settled = next, time.After(time.Until(next))
			}
			continue
		case err := <-s.watcher.Errors:
			s.log.Warn("watching routes failed; changes are found by looking", "error", err, "every", s.recheck)
		case <-settled:
			due = time.Time{}
		case <-recheck.C:
			if !due.IsZero() {
				continue // it is being written
			}
		}
		if err := s.watch(); err != nil {
			s.log.Warn("cannot watch routes; changes are found by looking", "error", err, "every", s.recheck)
		}
		s.look(accept)
	}
}

// after returns when to look at the file, given an event, whether that is about the file itself, and when a look was
// due before; zero is never. Writing puts a look off until the file has been left alone, and nothing brings it
// forward; writing to other files in the directory means nothing.
func after(e fsnotify.Event, own bool, due, now time.Time) time.Time {
	switch {
	case !e.Has(fsnotify.Write):
		if due.IsZero() {
			return now.Add(settleTime)
		}
	case own:
		return now.Add(writeTime)
	}
	return due
}

// watch may be repeated: it does nothing for a directory already watched, and one that is gone is watched no more.
func (s *Source) watch() error {
	err := s.watcher.Add(filepath.Dir(s.path))
	if s.target, _ = filepath.EvalSymlinks(s.path); s.target != "" {
		err = errors.Join(err, s.watcher.Add(filepath.Dir(s.target)))
	}
	return err
}

func (s *Source) isFile(name string) bool {
	return filepath.Clean(name) == filepath.Clean(s.path) || s.target != "" && filepath.Clean(name) == s.target
}

// look reads the file, and does nothing where it is as it was.
func (s *Source) look(accept func(route.Config) error) {
	data, changed, err := s.read()
	if !changed {
		return
	}
	var config route.Config
	if err == nil {
		config, err = s.parse(data)
	}
	if err == nil {
		err = accept(config)
	}
	if err != nil {
		s.reject(err)
		return
	}
	s.accepted.Inc()
	s.valid.Set(1)
	s.log.Info("routes changed", "routes", len(config.Routes))
}

func (s *Source) reject(err error) {
	s.rejected.Inc()
	s.valid.Set(0)
	problems := []error{err}
	if all := (routefile.Errors)(nil); errors.As(err, &all) {
		problems = all.Unwrap()
	}
	for _, problem := range problems {
		s.log.Error("routes not taken, the last good ones stay", "error", problem)
	}
}

func (s *Source) read() (data []byte, changed bool, err error) {
	data, err = os.ReadFile(s.path)
	now := string(data)
	if err != nil {
		err = fmt.Errorf("read routes: %w", err)
		now = err.Error()
	}
	changed = now != s.seen
	s.seen = now
	return data, changed, err
}

func (s *Source) parse(data []byte) (route.Config, error) {
	config, err := routefile.Parse(routefile.File{Name: s.path, Text: data})
	if err != nil {
		return route.Config{}, err
	}
	for _, w := range routefile.Warnings(routefile.File{Name: s.path, Text: data}) {
		s.log.Warn("routes can hardly be meant so", "at", w.Error())
	}
	return config, nil
}
