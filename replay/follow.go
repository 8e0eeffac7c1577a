package replay

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// followInterval is how often the file is read, and the clock.
const followInterval = time.Second

// follow gives limits to set as they change, by the clock and in the source's file, if it has one, until ctx ends; the first
// time at once. c is the valid configuration that runs, with its defaults.
func follow(ctx context.Context, c Config, source Source, set func(flow.Limits), log *slog.Logger) {
	current := newSchedule(c.Limits)
	limits := current.at(time.Now())
	set(limits)
	file := followed{running: c, parse: source.parse, log: log}
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if source.File != "" {
			if changed, ok := file.look(os.ReadFile(source.File)); ok {
				current = newSchedule(changed.Limits)
			}
		}
		if now := current.at(time.Now()); !reflect.DeepEqual(now, limits) {
			limits = now
			set(limits)
			log.Info("limits changed", "rate", Rate(limits.Rate).String(), "concurrency", limits.Concurrency, "key_rate", Rate(limits.KeyRate).String(),
				"route_rates", limits.RouteRates, "adaptive", limits.Adaptive)
		}
	}
}

// followed is a file's content over time.
type followed struct {
	running Config // with its defaults
	parse   func([]byte) (Config, error)
	log     *slog.Logger

	seen    []byte // the last time
	taken   []byte // or refused
	trouble string // why it could not be read the last time, if so
}

// look takes what reading the file has come to, and returns the configuration in it when that is another one than before,
// and valid. Something new is left alone until it has stayed as it is for once: it may be half of what is being written.
func (f *followed) look(text []byte, err error) (c Config, ok bool) {
	if err != nil {
		if err.Error() != f.trouble {
			f.trouble = err.Error()
			f.log.Error("configuration not read, the last good one stays", "error", err)
		}
		return Config{}, false
	}
	f.trouble = ""
	settled := f.seen != nil && bytes.Equal(text, f.seen)
	f.seen = append([]byte{}, text...)
	if !settled || f.taken != nil && bytes.Equal(text, f.taken) {
		return Config{}, false
	}
	f.taken = f.seen
	c, err = f.parse(text)
	if err != nil {
		f.log.Error("configuration not taken, the last good one stays", "error", err)
		return Config{}, false
	}
	if fields := differing("", reflect.ValueOf(f.running), reflect.ValueOf(c.withDefaults())); len(fields) > 0 {
		f.log.Warn("changed in the configuration, and taken with the next start only", "fields", strings.Join(fields, ", "))
	}
	return c, true
}

// differing returns the paths of the fields that differ between two structs, but for Limits, which may change at any time.
func differing(path string, a, b reflect.Value) (paths []string) {
	for i := range a.NumField() {
		field := a.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Type == reflect.TypeFor[Limits]():
		case field.Type.Kind() == reflect.Struct:
			paths = append(paths, differing(path+name+".", a.Field(i), b.Field(i))...)
		case !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
			paths = append(paths, path+name)
		}
	}
	return paths
}
