package source

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/marceloboeira/crowd/xds/route/routefile"
)

// watch is on directories, because editors rename a new file over the old one and Kubernetes swaps a symbolic link
// beside the files of a ConfigMap. They are the one that the path is in, the one that it is if it is one, and those
// that the files are really in, if they are links.
type watch struct {
	path    string
	watcher *fsnotify.Watcher
	// directory is what the path is, without links; empty where it is a file, or nothing.
	directory string
	targets   map[string]bool // the files, without links
}

func newWatch(path string) (*watch, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &watch{path: filepath.Clean(path), watcher: watcher}, nil
}

func (w *watch) events() <-chan fsnotify.Event { return w.watcher.Events }
func (w *watch) errors() <-chan error          { return w.watcher.Errors }
func (w *watch) close()                        { w.watcher.Close() }

// renew watches what is there now. It may be repeated: it does nothing for a directory that is watched already, and one
// that is gone, or is another by now, is watched no more.
func (w *watch) renew() error {
	wanted := map[string]bool{filepath.Dir(w.path): true}
	w.directory, w.targets = "", map[string]bool{}
	for _, file := range w.files() {
		if target, err := filepath.EvalSymlinks(file); err == nil {
			w.targets[target] = true
			wanted[filepath.Dir(target)] = true
		}
	}
	if w.directory != "" {
		wanted[w.directory] = true
	}
	var errs []error
	for directory := range wanted {
		errs = append(errs, w.watcher.Add(directory))
	}
	for _, directory := range w.watcher.WatchList() {
		if !wanted[directory] {
			_ = w.watcher.Remove(directory) // fails where it is gone, and its watch with it
		}
	}
	return errors.Join(errs...)
}

// files returns the files to read, and notes whether the path is a directory.
func (w *watch) files() []string {
	target, err := filepath.EvalSymlinks(w.path)
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir(target)
	if err != nil { // a file
		return []string{target}
	}
	w.directory = target
	var files []string
	for _, e := range entries {
		if routefile.IsRoutes(e.Name()) {
			files = append(files, filepath.Join(target, e.Name()))
		}
	}
	return files
}

// isRoutes reports whether an event's name is that of a file to read, which may be one that was not there before.
func (w *watch) isRoutes(name string) bool {
	name = filepath.Clean(name)
	return name == w.path || w.targets[name] ||
		w.directory != "" && filepath.Dir(name) == w.directory && routefile.IsRoutes(filepath.Base(name))
}

// after returns when to look at the routes, given an event, whether that is about one of their files, and when a look
// was due before; zero is never. Writing puts a look off until the file has been left alone, and nothing brings it
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
