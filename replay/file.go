package replay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/marceloboeira/crowd/xds/route"
	"github.com/marceloboeira/crowd/xds/route/routefile"
)

// Source is where a configuration comes from.
type Source struct {
	// File is the path of a file; empty: there is none.
	File string
	// Flags puts what flags say over what a file does; nil: nothing.
	Flags func(*Config)
}

// Load reads the configuration, strictly. Paths of files in the file are relative to its directory. What is wrong inside the
// file comes back at once, as a routefile.Errors; what is wrong with the whole that it makes with the flags has no position.
func (s Source) Load() (Config, error) {
	if s.File == "" {
		var c Config
		if s.Flags != nil {
			s.Flags(&c)
		}
		var errs []error
		for _, e := range c.Validate() {
			e.Path = flagOf(e.Path)
			errs = append(errs, e)
		}
		return c, errors.Join(errs...)
	}
	text, err := os.ReadFile(s.File)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return s.parse(text)
}

func (s Source) parse(text []byte) (Config, error) {
	file := routefile.File{Name: s.File, Text: text}
	if s.Flags == nil {
		c, err := routefile.Decode[Config](file)
		return c.in(filepath.Dir(s.File)), err
	}
	p, err := routefile.Decode[part](file)
	if err != nil {
		return Config{}, err
	}
	c := Config(p).in(filepath.Dir(s.File))
	s.Flags(&c)
	return c, c.check()
}

// check returns everything that is wrong with c as one error.
func (c Config) check() error {
	var errs []error
	for _, e := range c.Validate() {
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// part is a configuration of which flags may give what is required.
type part Config

// Validate implements route.Document.
func (p part) Validate() []route.FieldError {
	var r report
	Config(p).validateGiven(&r)
	return r
}

// in returns c with relative paths of files as such in a directory.
func (c Config) in(directory string) Config {
	within := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(directory, *path)
		}
	}
	for _, path := range []*string{&c.KafkaConfig, &c.TLS.CA, &c.TLS.Cert, &c.TLS.Key} {
		within(path)
	}
	for i := range c.Rewrite.RequestHeaders.Set {
		within(&c.Rewrite.RequestHeaders.Set[i].File)
	}
	return c
}
