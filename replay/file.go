package replay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/marceloboeira/crowd/xds/route"
	"github.com/marceloboeira/crowd/xds/route/routefile"
)

// Load reads the configuration file at path, strictly. Paths of files in it are relative to its directory. Then over,
// which may be nil, puts what flags say over it. What is wrong inside the file comes back at once, as a routefile.Errors;
// what is wrong with the whole that it makes with the flags has no position.
func Load(path string, over func(*Config)) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return parse(path, text, over)
}

func parse(path string, text []byte, over func(*Config)) (Config, error) {
	if over == nil {
		c, err := routefile.Decode[Config](routefile.File{Name: path, Text: text})
		return c.in(filepath.Dir(path)), err
	}
	p, err := routefile.Decode[part](routefile.File{Name: path, Text: text})
	if err != nil {
		return Config{}, err
	}
	c := Config(p).in(filepath.Dir(path))
	over(&c)
	var errs []error
	for _, e := range c.Validate() {
		errs = append(errs, e)
	}
	return c, errors.Join(errs...)
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
