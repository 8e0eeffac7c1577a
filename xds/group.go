package xds

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/marceloboeira/crowd/xds/internal/resources"
	"github.com/marceloboeira/crowd/xds/internal/server"
	"github.com/marceloboeira/crowd/xds/internal/source"
	"github.com/marceloboeira/crowd/xds/internal/state"
	"github.com/marceloboeira/crowd/xds/route"
)

// saveInterval is how often good routes that could not be kept are tried again, as on a disk that was full.
const saveInterval = 10 * time.Second

// group is the Envoys that share routes: it takes those from its source to the server, and what proved good to the state.
type group struct {
	name string
	deployment
	source *source.Source
	server *server.Server
	state  *state.Store // nil where none is kept
	served func(group string, document route.Config)
	log    *slog.Logger

	mu sync.Mutex
	// offered are the two latest documents that were offered, the latest last: news that the earlier one is good may come
	// when the next one is out already.
	offered []offered
	saved   string   // the version in the state
	unsaved *offered // what is good and not in the state, as it could not be written
}

type offered struct {
	version  string
	document route.Config
}

// start offers what the group has at first: its last good routes, if any are kept, with the settings that they were good
// with, and then what its source says, or else those routes with the settings of today. It fails where there is neither,
// with all that is wrong with the source.
func (g *group) start() error {
	good, restored := g.restore()
	document, err := g.source.First()
	if err == nil {
		err = g.offer(document)
	}
	if err == nil || !restored {
		return err
	}
	g.source.Reject(err)
	if good.Settings == g.settings() {
		return nil
	}
	if err := g.offer(good.Routes); err != nil {
		g.log.Error("the last good routes stay with the settings of before, as those of today do not fit them", "group", g.name, "error", err)
	}
	return nil
}

// restore returns the last good routes, and whether there are any, which the group's Envoys get then.
func (g *group) restore() (state.Good, bool) {
	if g.state == nil {
		return state.Good{}, false
	}
	good, ok := g.state.Load(g.name)
	if !ok {
		return state.Good{}, false
	}
	before, err := g.as(good.Settings)
	if err == nil {
		err = g.restoreAs(before, good.Routes)
	}
	if err != nil {
		g.log.Error("the last good routes cannot be used", "group", g.name, "error", err)
		return state.Good{}, false
	}
	g.served(g.name, good.Routes)
	return good, true
}

func (g *group) restoreAs(d deployment, document route.Config) error {
	r, err := d.build(document)
	if err != nil {
		return err
	}
	g.saved, err = g.server.Restore(g.name, r)
	return err
}

// run offers every change until ctx ends.
func (g *group) run(ctx context.Context) {
	var saving sync.WaitGroup
	defer saving.Wait()
	saving.Go(func() { g.saveAgain(ctx, saveInterval) })
	g.source.Run(ctx, g.offer)
}

func (g *group) offer(document route.Config) error {
	r, err := g.build(document)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	version, err := g.server.Offer(g.name, r)
	if err != nil {
		return err
	}
	g.offered = append(g.offered[max(0, len(g.offered)-1):], offered{version, document})
	g.served(g.name, document)
	return nil
}

func (d deployment) build(document route.Config) (resources.Resources, error) {
	return resources.Build(resources.Input{Routes: document, Filter: d.filter, Gateway: d.gateway})
}

// keep puts a version that is good into the state.
func (g *group) keep(version string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == nil {
		return
	}
	if version == g.saved {
		g.unsaved = nil
		return
	}
	for _, o := range g.offered {
		if o.version != version {
			continue
		}
		g.unsaved = &o
		if err := g.save(); err != nil {
			g.log.Error("good routes are not kept yet: a start with broken ones would serve earlier ones, or fail",
				"again after", saveInterval, "error", err)
		}
		return
	}
}

func (g *group) save() error {
	if err := g.state.Save(g.name, state.Good{Routes: g.unsaved.document, Settings: g.settings()}); err != nil {
		return err
	}
	g.saved, g.unsaved = g.unsaved.version, nil
	return nil
}

// saveAgain tries until ctx ends to keep what could not be.
func (g *group) saveAgain(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		g.mu.Lock()
		if g.unsaved != nil && g.save() == nil {
			g.log.Info("good routes are kept", "group", g.name, "version", g.saved)
		}
		g.mu.Unlock()
	}
}
