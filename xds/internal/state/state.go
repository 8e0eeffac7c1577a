// Package state keeps the last good routes of each group on disk, so that a server that starts with broken ones has
// something to serve.
package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/marceloboeira/crowd/xds/route"
)

// Good is what a rollout finished with.
type Good struct {
	Routes route.Config
	// Settings are what the routes were good with, one line; what it means is up to whoever saves it.
	Settings string
}

// Store is a directory with a file for each group. It is safe for concurrent use, but one group's Saves must not overlap.
type Store struct {
	files     vfs.FS
	directory string
	log       *slog.Logger
	lock      io.Closer
}

// Open makes the directory where it is not there yet. It fails where it cannot be written to, and where another Store has
// it: two servers would take each other's routes for their own. Close gives it free, as the end of the process does.
func Open(directory string, log *slog.Logger) (*Store, error) {
	return open(vfs.Default, directory, log)
}

func open(files vfs.FS, directory string, log *slog.Logger) (*Store, error) {
	s := &Store{files: files, directory: directory, log: log}
	if err := s.prepare(); err != nil {
		if s.lock != nil {
			err = errors.Join(err, s.lock.Close())
		}
		return nil, fmt.Errorf("state directory: %w", err)
	}
	return s, nil
}

// Close ends the use of the directory.
func (s *Store) Close() error { return s.lock.Close() }

func (s *Store) prepare() (err error) {
	if err := s.makeDirectory(s.directory); err != nil {
		return err
	}
	probe := filepath.Join(s.directory, ".writable")
	if err := s.write(probe, nil); err != nil {
		return err
	}
	if s.lock, err = s.files.Lock(filepath.Join(s.directory, ".lock")); err != nil {
		return fmt.Errorf("%s is in use by another crowd xds: %w", s.directory, err)
	}
	return s.files.Remove(probe)
}

// makeDirectory makes a directory, and what it is in, so that a crash does not take their names away again.
func (s *Store) makeDirectory(path string) error {
	if _, err := s.files.Stat(path); err == nil {
		return s.files.MkdirAll(path, 0o750) // fails where it is a file
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := s.makeDirectory(parent); err != nil {
			return err
		}
	}
	if err := s.files.MkdirAll(path, 0o750); err != nil {
		return err
	}
	return s.sync(parent)
}

// sync puts the names of a directory's files on disk.
func (s *Store) sync(directory string) error {
	d, err := s.files.OpenDir(directory)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// path is where a group's routes are. Its name is one that files can have: see nodegroup.Group.
func (s *Store) path(group string) string { return filepath.Join(s.directory, group+".yaml") }

// Load returns a group's last good routes, and whether there are any. A file that is not what Save wrote, or that this
// version of crowd would refuse, is set aside and reported, and counts as none; so does one that cannot be read, which
// stays where it is.
func (s *Store) Load(group string) (Good, bool) {
	path := s.path(group)
	text, err := s.read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Good{}, false
	case err != nil:
		s.log.Error("the last good routes cannot be read", "group", group, "error", err)
		return Good{}, false
	}
	good, err := decode(text)
	if err == nil {
		return good, true
	}
	aside := path + ".damaged"
	if moveErr := s.files.Rename(path, aside); moveErr != nil {
		aside = fmt.Sprintf("not moved: %v", moveErr)
	}
	s.log.Error("the last good routes cannot be used and are set aside", "group", group, "file", path, "aside", aside, "error", err)
	return Good{}, false
}

// Save makes good the group's last good routes. When it returns they are on disk; until then, and where it fails, the
// earlier ones are there.
func (s *Store) Save(group string, good Good) error {
	text, err := encode(good)
	if err != nil {
		return fmt.Errorf("save routes of %s: %w", group, err)
	}
	path := s.path(group)
	if err := s.replace(path, text); err != nil {
		return fmt.Errorf("save routes of %s: %w", group, err)
	}
	return nil
}

// replace renames a new file over path. Both the file's content and its name are synced: a rename alone may be on disk
// before what was renamed, or never.
func (s *Store) replace(path string, text []byte) error {
	next := path + ".next"
	if err := s.write(next, text); err != nil {
		return err
	}
	if err := s.files.Rename(next, path); err != nil {
		return err
	}
	return s.sync(s.directory)
}

func (s *Store) write(path string, text []byte) error {
	file, err := s.files.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (s *Store) read(path string) ([]byte, error) {
	file, err := s.files.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}
