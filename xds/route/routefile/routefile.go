// Package routefile reads route documents that people write: YAML, of which JSON is a part, with every error at
// its line and column.
package routefile

import (
	"fmt"
	"os"

	"github.com/marceloboeira/crowd/xds/route"
)

// Load reads, decodes and validates the file at path. What is wrong inside it is an Errors.
func Load(path string) (route.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return route.Config{}, fmt.Errorf("read routes: %w", err)
	}
	return Parse(path, data)
}

// Parse decodes and validates the document in data; name is what errors call it. Whatever is wrong comes back
// at once, as an Errors.
func Parse(name string, data []byte) (route.Config, error) {
	c, _, err := parse(name, data)
	return c, err
}

// Warnings returns what is allowed and can hardly be meant in the document that Parse reads (see
// route.Config.Warnings); nil for one that Parse refuses.
func Warnings(name string, data []byte) []Problem {
	c, doc, err := parse(name, data)
	if err != nil {
		return nil
	}
	warnings := c.Warnings()
	for i := range warnings {
		warnings[i].Line, warnings[i].Column = doc.Position(warnings[i].Path)
	}
	return problems(name, warnings)
}

func parse(name string, data []byte) (route.Config, route.Node, error) {
	doc, fault := readYAML(data)
	if fault != nil {
		return route.Config{}, doc, Errors{{File: name, FieldError: *fault}}
	}
	c, errs := route.Decode(doc)
	if len(errs) > 0 {
		return route.Config{}, doc, Errors(problems(name, errs))
	}
	return c, doc, nil
}
