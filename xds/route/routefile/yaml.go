package routefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/marceloboeira/crowd/xds/route"
)

// The bounds of a document. Ten thousand routes take about a tenth of them.
const (
	maxBytes = 16 << 20 // also of text with aliases expanded
	// maxNodes counts values and the names of fields, with aliases expanded: a few lines of aliases to aliases
	// make billions.
	maxNodes = 1_000_000
	// maxDepth also ends an alias that contains itself.
	maxDepth = 32
)

// readYAML returns the one document in a file, or why there is none.
func readYAML(f File) (route.Node, *route.FieldError) {
	doc, fault := readDocument(f.Text, f.Name)
	if fault != nil {
		fault.File = f.Name
	}
	return doc, fault
}

func readDocument(data []byte, file string) (route.Node, *route.FieldError) {
	if len(data) > maxBytes {
		return fault(1, 1, "the document has %d bytes (allowed: at most %d)", len(data), maxBytes)
	}
	if line, column, ok := notText(data); ok {
		return fault(line, column, "not text: a control character, or not UTF-8")
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		panic("BUG: YAML loader without options: " + err.Error())
	}
	var doc, next yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return route.Node{Kind: route.Null, File: file, Line: 1, Column: 1}, nil
	} else if err != nil {
		return syntaxFault(err)
	}
	if err := loader.Load(&next); err == nil {
		return fault(next.Line, next.Column, "a second document begins here (allowed: one a file)")
	} else if !errors.Is(err, io.EOF) {
		return syntaxFault(err)
	}
	c := converter{file: file}
	n := c.node(doc.Content[0], 0)
	if c.fault != nil {
		return route.Node{}, c.fault
	}
	return n, nil
}

func fault(line, column int, format string, args ...any) (route.Node, *route.FieldError) {
	return route.Node{}, &route.FieldError{Message: fmt.Sprintf(format, args...), Line: line, Column: column}
}

func syntaxFault(err error) (route.Node, *route.FieldError) {
	at := (*yaml.LoadError)(nil)
	if !errors.As(err, &at) {
		return fault(1, 1, "not YAML: %v", err)
	}
	where := ""
	if at.ContextMsg != "" {
		where = at.ContextMsg + ": "
	}
	return fault(max(1, at.Mark.Line), max(1, at.Mark.Column), "not YAML: %s%s", where, at.Message)
}

// notText returns where the first byte stands that YAML does not take raw, and whether there is one.
func notText(data []byte) (line, column int, found bool) {
	line, column = 1, 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1, r < ' ' && !strings.ContainsRune("\t\r\n", r), r == 0x7f:
			return line, column, true
		case r == '\n':
			line, column = line+1, 1
		default:
			column++
		}
		data = data[size:]
	}
	return 0, 0, false
}

// converter makes route.Nodes of YAML's, with aliases expanded.
type converter struct {
	file  string
	nodes int
	bytes int // of text
	fault *route.FieldError
}

func (c *converter) node(n *yaml.Node, depth int) route.Node {
	if c.nodes++; c.nodes > maxNodes && c.fault == nil {
		_, c.fault = fault(n.Line, n.Column, "more than %d values, with aliases expanded", maxNodes)
	}
	if c.bytes += len(n.Value); c.bytes > maxBytes && c.fault == nil {
		_, c.fault = fault(n.Line, n.Column, "more than %d bytes of text, with aliases expanded", maxBytes)
	}
	if depth > maxDepth && c.fault == nil {
		_, c.fault = fault(n.Line, n.Column, "nested deeper than %d, or an alias within itself", maxDepth)
	}
	if c.fault != nil {
		return route.Node{}
	}
	made := route.Node{File: c.file, Line: n.Line, Column: n.Column}
	switch tag := n.ShortTag(); {
	case n.Kind == yaml.AliasNode:
		return c.node(n.Alias, depth+1)
	case n.Style&yaml.TaggedStyle != 0 && tag != "!!str":
		made.Text = fmt.Sprintf("has the tag %q (allowed: no tags)", tag)
	case n.Kind == yaml.MappingNode:
		made.Kind, made.Fields = route.Object, c.fields(n, depth)
	case n.Kind == yaml.SequenceNode:
		made.Kind = route.List
		for _, item := range n.Content {
			made.Items = append(made.Items, c.node(item, depth+1))
		}
	default:
		made.Kind, made.Text = scalar(tag, n.Value)
	}
	return made
}

func (c *converter) fields(n *yaml.Node, depth int) []route.Field {
	var fields []route.Field
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		field := route.Field{Name: key.Value, Line: key.Line, Column: key.Column, Value: route.Node{File: c.file}}
		switch {
		case key.ShortTag() == "!!merge":
			field.Value.Text = "keys are not merged (allowed: fields written out)"
		case key.Kind != yaml.ScalarNode:
			field.Value.Text = "is not the name of a field (allowed: text)"
		default:
			field.Value = c.node(n.Content[i+1], depth+1)
		}
		fields = append(fields, field)
		c.nodes++
	}
	return fields
}

// scalar returns what the text of a scalar is, by its tag. A date is text: the language has none.
func scalar(tag, text string) (route.Kind, string) {
	switch tag {
	case "!!null":
		return route.Null, ""
	case "!!bool":
		return route.Bool, strings.ToLower(text)
	case "!!int", "!!float":
		return route.Number, text
	}
	return route.String, text
}
