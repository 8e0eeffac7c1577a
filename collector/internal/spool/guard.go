package spool

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard keeps Pebble from learning that its log or its manifest could not be written or synced. What is on the disk is
// in doubt then, and must not be guessed at: the spool has failed. What Pebble would do is to end the process, by
// Logger.Fatalf, or from under a mutex where a panic cannot be survived (DB.rotateWAL); instead, whichever of its
// goroutines meets the error stands still for what is left of the process's life, while others still read.
//
// Errors about tables pass: Pebble writes such a table again, at once and as often as it takes, and what is in it is in
// the log meanwhile.
type guard struct {
	vfs.FS
	fail  func(error) // must not call Pebble
	armed atomic.Bool // since Open: until then errors are Open's
}

// tablePause is how long an error about a table takes, so that trying again does not take a whole CPU.
const tablePause = 100 * time.Millisecond

func (g *guard) check(what, name string, err error) error {
	if err == nil || !g.armed.Load() {
		return err
	}
	switch filepath.Ext(name) {
	case ".sst", ".blob":
		time.Sleep(tablePause)
		return err
	}
	g.fail(fmt.Errorf("%s %s: %w", what, name, err))
	select {}
}

func (g *guard) Unwrap() vfs.FS { return g.FS }

func (g *guard) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, category)
	return g.wrap(f, name, g.check("creating", name, err))
}

func (g *guard) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(oldname, newname, category)
	return g.wrap(f, newname, g.check("reusing", oldname, err))
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return g.wrap(f, name, g.check("opening", name, err))
}

func (g *guard) Rename(oldname, newname string) error {
	return g.check("renaming", oldname, g.FS.Rename(oldname, newname))
}

func (g *guard) wrap(f vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &guarded{File: f, guard: g, name: name}, nil
}

// guarded is a file that is written, or a directory.
type guarded struct {
	vfs.File
	guard *guard
	name  string
}

func (f *guarded) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.guard.check("writing", f.name, err)
}

func (f *guarded) Sync() error { return f.guard.check("syncing", f.name, f.File.Sync()) }

func (f *guarded) SyncData() error { return f.guard.check("syncing", f.name, f.File.SyncData()) }

func (f *guarded) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.guard.check("syncing", f.name, err)
}

func (f *guarded) Close() error { return f.guard.check("closing", f.name, f.File.Close()) }
