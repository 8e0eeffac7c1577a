package nodegroup

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/marceloboeira/crowd/xds/route"
	"github.com/marceloboeira/crowd/xds/route/routefile"
)

// document takes values out of a YAML file, strictly, and gathers everything that is wrong with it.
type document struct {
	file     string
	problems routefile.Errors
}

// parse returns the file's only value, or nil for an empty file or one that is not YAML.
func (d *document) parse(text []byte) *yaml.Node {
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		panic("BUG: YAML loader without options: " + err.Error())
	}
	var first, next yaml.Node
	if err = loader.Load(&first); errors.Is(err, io.EOF) {
		d.failAt(1, 1, "", "the file is empty (allowed: groups)")
		return nil
	}
	if err == nil {
		err = loader.Load(&next)
	}
	at := (*yaml.LoadError)(nil)
	switch {
	case errors.Is(err, io.EOF):
		return first.Content[0]
	case err == nil:
		d.fail(&next, "", "a second document begins here (allowed: one a file)")
	case errors.As(err, &at):
		d.failAt(max(1, at.Mark.Line), max(1, at.Mark.Column), "", "not YAML: %s", at.Message)
	default:
		d.failAt(1, 1, "", "not YAML: %v", err)
	}
	return nil
}

func (d *document) fail(n *yaml.Node, path, format string, args ...any) {
	d.failAt(n.Line, n.Column, path, format, args...)
}

func (d *document) failAt(line, column int, path, format string, args ...any) {
	d.problems = append(d.problems, routefile.Problem{FieldError: route.FieldError{
		Path: path, Message: fmt.Sprintf(format, args...), File: d.file, Line: line, Column: column,
	}})
}

// err returns what is wrong, in the file's order.
func (d *document) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b routefile.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return d.problems
}

// field is one that an object may have, and what reads its value.
type field struct {
	name     string
	required bool
	read     func(n *yaml.Node, path string)
}

// object reads the fields of an object.
func (d *document) object(n *yaml.Node, path string, fields ...field) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	allowed := strings.Join(names, ", ")
	if !d.is(n, path, yaml.MappingNode, "a group of fields: "+allowed) {
		return
	}
	given := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		index := slices.Index(names, key.Value)
		switch {
		case key.Kind != yaml.ScalarNode || index < 0:
			d.fail(key, at, "unknown field (allowed: %s)", allowed)
			continue
		case given[key.Value]:
			d.fail(key, at, "is given twice (allowed: once)")
			continue
		}
		given[key.Value] = true
		if value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null" { // no condition would be one that always holds
			d.fail(key, at, "has no value (allowed: leave it out, or give one)")
			continue
		}
		fields[index].read(value, at)
	}
	for _, f := range fields {
		if f.required && !given[f.name] {
			d.fail(n, join(path, f.name), "is required")
		}
	}
}

// list reads each item of a list, of which there must be at least one.
func (d *document) list(n *yaml.Node, path, what string, read func(n *yaml.Node, path string)) {
	if !d.is(n, path, yaml.SequenceNode, "a list of "+what) {
		return
	}
	if len(n.Content) == 0 {
		d.fail(n, path, "is empty (allowed: at least one)")
	}
	for i, item := range n.Content {
		read(item, fmt.Sprintf("%s[%d]", path, i))
	}
}

// text returns a text.
func (d *document) text(n *yaml.Node, path string) (string, bool) {
	if !d.is(n, path, yaml.ScalarNode, "text") {
		return "", false
	}
	if tag := n.ShortTag(); tag != "!!str" && tag != "!!timestamp" {
		d.fail(n, path, "is %s (allowed: text, which this becomes in quotes)", cmp.Or(scalarNames[tag], tag))
		return "", false
	}
	return n.Value, true
}

// textInto sets a text, which must not be empty.
func (d *document) textInto(to *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := d.text(n, path)
		if ok && text == "" {
			d.fail(n, path, "is empty (allowed: leave it out, or give a value)")
		}
		*to = text
	}
}

func (d *document) is(n *yaml.Node, path string, kind yaml.Kind, allowed string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.fail(n, path, "is an alias (allowed: values written out)")
	case n.Style&yaml.TaggedStyle != 0 && n.ShortTag() != "!!str":
		d.fail(n, path, "has the tag %q (allowed: no tags)", n.ShortTag())
	case n.Kind != kind:
		d.fail(n, path, "is %s (allowed: %s)", kindNames[n.Kind], allowed)
	default:
		return true
	}
	return false
}

var scalarNames = map[string]string{
	"!!int": "a number", "!!float": "a number", "!!bool": "true or false", "!!null": "nothing",
}

var kindNames = map[yaml.Kind]string{
	yaml.MappingNode: "a group of fields", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value",
}

func join(path, name string) string {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" || name == "" {
		name = fmt.Sprintf("%.80q", name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
