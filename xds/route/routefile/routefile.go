// Package routefile reads route documents that people write: YAML, of which JSON is a part, with every error at
// its file, line and column.
package routefile

import (
	"github.com/marceloboeira/crowd/xds/route"
)

// Load reads, decodes and validates the document at path: a file, or a directory (see Read). What is wrong inside it is an
// Errors.
func Load(path string) (route.Config, error) {
	files, err := Read(path)
	if err != nil {
		return route.Config{}, err
	}
	return Parse(files...)
}

// Parse decodes and validates the document that the files make together: their routes one after another, and uplink and
// defaults from whichever has them, once. Errors count routes over all files. Whatever is wrong comes back at once, as an
// Errors.
func Parse(files ...File) (route.Config, error) {
	c, _, err := parse(files)
	return c, err
}

// Check is Parse, and returns also what is allowed and can hardly be meant (see route.Config.Warnings); nothing of a
// document that is refused.
func Check(files ...File) (route.Config, []Problem, error) {
	c, doc, err := parse(files)
	if err != nil {
		return c, nil, err
	}
	warnings := c.Warnings()
	for i := range warnings {
		doc.Locate(&warnings[i])
	}
	return c, problems(warnings), nil
}

// Decode reads a document of another language in the same way, from one file, but takes no field without a value: where
// fields are conditions, one that is forgotten would make the others hold for more. What is wrong inside it is an Errors.
func Decode[D route.Document](f File) (D, error) {
	doc, fault := readYAML(f)
	if fault != nil {
		var none D
		return none, Errors(problems([]route.FieldError{*fault}))
	}
	refuseNulls(&doc)
	v, errs := route.Decode[D](doc)
	if len(errs) > 0 {
		return v, Errors(problems(errs))
	}
	return v, nil
}

func refuseNulls(n *route.Node) {
	for i := range n.Items {
		refuseNulls(&n.Items[i])
	}
	for i := range n.Fields {
		value := &n.Fields[i].Value
		if value.Kind == route.Null {
			value.Kind, value.Text = route.Unreadable, "has no value (allowed: leave it out, or give one)"
		}
		refuseNulls(value)
	}
}

func parse(files []File) (route.Config, route.Node, error) {
	var docs []route.Node
	var faults []route.FieldError
	for _, f := range files {
		doc, fault := readYAML(f)
		if fault != nil {
			faults = append(faults, *fault)
		}
		docs = append(docs, doc)
	}
	if faults != nil {
		return route.Config{}, route.Node{}, Errors(problems(faults))
	}
	doc := join(docs)
	c, errs := route.Decode[route.Config](doc)
	if len(errs) > 0 {
		return route.Config{}, doc, Errors(problems(errs))
	}
	return c, doc, nil
}

// join makes one document of those of several files. What is no group of fields, and a second uplink or defaults, is left
// in for route.Decode to complain of.
func join(docs []route.Node) route.Node {
	if len(docs) == 1 {
		return docs[0]
	}
	whole := docs[0]
	whole.Fields = nil
	var routes *route.Field
	for _, doc := range docs {
		switch {
		case doc.Kind == route.Null:
			continue
		case doc.Kind != route.Object:
			return doc
		case whole.Kind != route.Object:
			whole = route.Node{Kind: route.Object, File: doc.File, Line: doc.Line, Column: doc.Column}
		}
		for _, field := range doc.Fields {
			switch {
			case field.Name == "routes" && field.Value.Kind == route.Null:
			case field.Name != "routes" || field.Value.Kind != route.List:
				whole.Fields = append(whole.Fields, field)
			case routes == nil:
				routes = &field
			default:
				routes.Value.Items = append(routes.Value.Items[:len(routes.Value.Items):len(routes.Value.Items)], field.Value.Items...)
			}
		}
	}
	if routes != nil {
		whole.Fields = append(whole.Fields, *routes)
	}
	return whole
}
