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
	// settleTime lets an editor finish: truncating and writing, or removing and renaming, are events of their own.
	settleTime = 50 * time.Millisecond
	// recheckInterval is how late a change may be noticed that makes no event: on a network file system another
	// host made it, or the directory was replaced and is no longer the one watched.
	recheckInterval = 10 * time.Second
)

// Source follows one file. It watches the file's directory, because editors rename a new file over the old one and
// Kubernetes swaps a symbolic link beside the file of a ConfigMap.
type Source struct {
	path    string
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
	var settled <-chan time.Time // set while an event waits for the next ones
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.watcher.Events:
			if settled == nil {
				settled = time.After(settleTime)
			}
			continue
		case err := <-s.watcher.Errors:
			s.log.Warn("watching routes failed; changes are found by looking", "error", err, "every", s.recheck)
		case <-settled:
			settled = nil
		case <-recheck.C:
			if err := s.watch(); err != nil {
				s.log.Warn("cannot watch routes; changes are found by looking", "error", err, "every", s.recheck)
			}
		}
		s.look(accept)
	}
}

// watch may be repeated: it does nothing for a directory already watched.
func (s *Source) watch() error { return s.watcher.Add(filepath.Dir(s.path)) }

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
	config, err := routefile.Parse(s.path, data)
	if err != nil {
		return route.Config{}, err
	}
	for _, w := range routefile.Warnings(s.path, data) {
		s.log.Warn("routes can hardly be meant so", "at", w.Error())
	}
	return config, nil
}
