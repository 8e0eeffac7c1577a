// Package source follows the routes of a group, a file or a directory of files, and passes on every valid version.
package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/marceloboeira/crowd/xds/route"
	"github.com/marceloboeira/crowd/xds/route/routefile"
)

const (
	// settleTime lets a change finish that comes as several events, such as removing and renaming.
	settleTime = 50 * time.Millisecond
	// writeTime is how long a file that is written in place must have been left alone: half of one may be valid too.
	writeTime = 300 * time.Millisecond
	// recheckInterval is how late a change may be noticed that makes no event: on a network file system another
	// host made it, or a directory further up was replaced.
	recheckInterval = 10 * time.Second
)

// Source follows one path. Its methods are for one goroutine.
type Source struct {
	path    string
	log     *slog.Logger
	metrics groupMetrics
	watch   *watch
	recheck time.Duration
	// seen is what the path held when it was last looked at, or why it could not be read.
	seen fingerprint
}

// New begins to watch the path of a group's routes, which need not be there yet.
func New(group, path string, log *slog.Logger, metrics *Metrics) (*Source, error) {
	w, err := newWatch(path)
	if err != nil {
		return nil, fmt.Errorf("watch routes: %w", err)
	}
	return &Source{
		path: path, log: log.With("group", group, "routes", path), metrics: metrics.of(group),
		watch: w, recheck: recheckInterval,
	}, nil
}

// First returns the routes as they are now; Run goes on from there. It fails where there is no valid document, with all
// that is wrong in it.
func (s *Source) First() (route.Config, error) {
	_ = s.watch.renew() // what cannot be watched cannot be read either, or is looked at by Run
	files, now, err := read(s.path)
	s.seen = now
	if err != nil {
		return route.Config{}, err
	}
	config, err := s.parse(files)
	if err == nil {
		s.metrics.valid.Set(1)
	}
	return config, err
}

// Close ends the watch of a Source that is not Run.
func (s *Source) Close() { s.watch.close() }

// Run passes every later valid version to accept, one at a time, until ctx ends. What is not valid, or what accept
// refuses, is logged with all that is wrong, and counted.
func (s *Source) Run(ctx context.Context, accept func(route.Config) error) {
	defer s.watch.close()
	recheck := time.NewTicker(s.recheck)
	defer recheck.Stop()
	var due time.Time            // when to look, after an event
	var settled <-chan time.Time // then
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.watch.events():
			if next := after(e, s.watch.isRoutes(e.Name), due, time.Now()); next != due {
				due, settled = next, time.After(time.Until(next))
			}
			continue
		case err := <-s.watch.errors():
			s.log.Warn("watching routes failed; changes are found by looking", "error", err, "every", s.recheck)
		case <-settled:
			due = time.Time{}
		case <-recheck.C:
			if !due.IsZero() {
				continue // it is being written
			}
		}
		if err := s.watch.renew(); err != nil {
			s.log.Warn("cannot watch routes; changes are found by looking", "error", err, "every", s.recheck)
		}
		if !s.look(accept) {
			due = time.Now().Add(settleTime)
			settled = time.After(settleTime)
		}
	}
}

// look reads the routes, and does nothing where they are as they were. It returns false where they changed while they
// were read: files of two versions may be valid together, and are neither.
func (s *Source) look(accept func(route.Config) error) bool {
	files, now, err := read(s.path)
	if now == s.seen {
		return true
	}
	if _, again, _ := read(s.path); again != now {
		return false
	}
	s.seen = now
	var config route.Config
	if err == nil {
		config, err = s.parse(files)
	}
	if err == nil {
		err = accept(config)
	}
	if err != nil {
		s.Reject(err)
		return true
	}
	s.metrics.accepted.Inc()
	s.metrics.valid.Set(1)
	s.log.Info("routes changed", "count", len(config.Routes))
	return true
}

// Reject logs and counts what is wrong with the routes.
func (s *Source) Reject(err error) {
	s.metrics.rejected.Inc()
	s.metrics.valid.Set(0)
	problems := []error{err}
	if all := (routefile.Errors)(nil); errors.As(err, &all) {
		problems = all.Unwrap()
	}
	for _, problem := range problems {
		s.log.Error("routes not taken, the last good ones stay", "error", problem)
	}
}

func (s *Source) parse(files []routefile.File) (route.Config, error) {
	config, warnings, err := routefile.Check(files...)
	for _, w := range warnings {
		s.log.Warn("routes can hardly be meant so", "at", w.Error())
	}
	return config, err
}

// fingerprint is a hash of files and their names, or of the error.
type fingerprint [sha256.Size]byte

func read(path string) ([]routefile.File, fingerprint, error) {
	files, err := routefile.Read(path)
	hash := sha256.New()
	fmt.Fprintf(hash, "%v\n", err)
	for _, f := range files {
		fmt.Fprintf(hash, "%q %d\n", f.Name, len(f.Text))
		hash.Write(f.Text)
	}
	return files, fingerprint(hash.Sum(nil)), err
}
