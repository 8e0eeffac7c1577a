package route

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Document is a whole document of some language. Its fields are known by their tags for encoding/json; they are structs,
// slices, texts (also encoding.TextUnmarshaler), ints, bools and pointers to these.
type Document interface {
	// Validate returns everything that is wrong with it, without positions, each time the same.
	Validate() []FieldError
}

// Decode reads a document, strictly, and validates it. It returns every error, in the document's order where
// positions are known; what it returns is whole only if there is none.
//
// A field may be null, which is as if it were absent. It may not be written as empty or 0 where that would
// silently become its default. What could not be read is not complained of again as missing.
func Decode[D Document](doc Node) (D, []FieldError) {
	var v, empty D
	d := decoder{fields: map[reflect.Type][]structField{}}
	if doc.Kind == Null {
		allowed := strings.Join(fieldNames(d.fieldsOf(reflect.TypeFor[D]())), ", ")
		return empty, []FieldError{{
			Message: "the document is empty (allowed: " + allowed + ")", File: doc.File, Line: doc.Line, Column: doc.Column,
		}}
	}
	d.value(&doc, reflect.ValueOf(&v).Elem(), "")
	if d.errs == nil && v.Validate() == nil {
		return v, nil
	}
	// Once more, for the sake of the paths.
	v, d = empty, decoder{paths: true, fields: d.fields, unread: map[string]bool{}}
	d.value(&doc, reflect.ValueOf(&v).Elem(), "")
	for _, e := range v.Validate() {
		if !d.overlapsUnread(e.Path) {
			doc.Locate(&e)
			d.errs = append(d.errs, e)
		}
	}
	slices.SortStableFunc(d.errs, func(a, b FieldError) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return v, d.errs
}

type decoder struct {
	paths
	errs   []FieldError
	fields map[reflect.Type][]structField
	// unread holds the path of all that could not be read (true) and of what is around it (false).
	unread map[string]bool
}

func (d *decoder) fail(path, file string, line, column int, format string, args ...any) {
	d.errs = append(d.errs, FieldError{
		Path: path, Message: fmt.Sprintf(format, args...), File: file, Line: line, Column: column,
	})
	d.markUnread(path)
}

func (d *decoder) markUnread(path string) {
	if !d.paths {
		return
	}
	d.unread[path] = true
	for path != "" {
		path = parentPath(path)
		if _, known := d.unread[path]; known {
			return
		}
		d.unread[path] = false
	}
}

// overlapsUnread reports whether something at path, in it or around it could not be read.
func (d *decoder) overlapsUnread(path string) bool {
	if _, ok := d.unread[path]; ok {
		return true
	}
	for path != "" {
		path = parentPath(path)
		if d.unread[path] {
			return true
		}
	}
	return false
}

func (d *decoder) value(n *Node, v reflect.Value, path string) {
	switch {
	case n.Kind == Unreadable:
		d.fail(path, n.File, n.Line, n.Column, "%s", n.Text)
		return
	case n.Kind == Null:
		return
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path)
		return
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind != String && n.Kind != Number && n.Kind != Bool {
			d.wrongKind(n, path, reflect.TypeFor[string]())
		} else if err := text.UnmarshalText([]byte(n.Text)); err != nil {
			d.fail(path, n.File, n.Line, n.Column, "%v", err)
		}
		return
	}
	want, ok := wantedKinds[v.Kind()]
	switch {
	case !ok:
		panic("BUG: the route language has no values of type " + v.Type().String())
	case n.Kind != want:
		d.wrongKind(n, path, v.Type())
	case want == Object:
		d.object(n, v, path)
	case want == List:
		v.Set(reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items)))
		for i := range n.Items {
			d.value(&n.Items[i], v.Index(i), d.item(path, i))
		}
	case want == String:
		v.SetString(n.Text)
	case want == Bool:
		v.SetBool(n.Text == "true")
	case want == Number:
		i, err := strconv.Atoi(n.Text)
		if err != nil {
			d.fail(path, n.File, n.Line, n.Column, "%s is not a whole number (allowed: digits)", quote(n.Text))
			return
		}
		v.SetInt(int64(i))
	}
}

var wantedKinds = map[reflect.Kind]Kind{
	reflect.Struct: Object,
	reflect.Slice:  List,
	reflect.String: String,
	reflect.Bool:   Bool,
	reflect.Int:    Number,
}

func (d *decoder) wrongKind(n *Node, path string, wanted reflect.Type) {
	want := wantedKinds[wanted.Kind()]
	allowed := want.String()
	switch {
	case want == Object:
		allowed += ": " + strings.Join(fieldNames(d.fieldsOf(wanted)), ", ")
	case want == String && (n.Kind == Number || n.Kind == Bool):
		allowed += ", which this becomes in quotes"
	}
	d.fail(path, n.File, n.Line, n.Column, "is %s (allowed: %s)", n.Kind, allowed)
}

func (d *decoder) object(n *Node, v reflect.Value, path string) {
	fields := d.fieldsOf(v.Type())
	given := make([]*Field, len(fields))
	var unknown map[string]*Field // those given
	for i := range n.Fields {
		f := &n.Fields[i]
		at := d.paths.field(path, f.Name)
		index := slices.IndexFunc(fields, func(known structField) bool { return known.name == f.Name })
		var first *Field
		if index >= 0 {
			first, given[index] = given[index], cmp.Or(given[index], f)
		} else if first = unknown[f.Name]; first == nil {
			if unknown == nil {
				unknown = map[string]*Field{}
			}
			unknown[f.Name] = f
		}
		switch {
		case first != nil:
			d.givenTwice(f, first, at)
		case index < 0 && f.Value.Kind == Unreadable:
			d.fail(at, f.Value.File, f.Line, f.Column, "%s", f.Value.Text)
		case index < 0:
			d.unknownField(f, path, fieldNames(fields))
		default:
			d.field(&f.Value, v.FieldByIndex(fields[index].index), at)
		}
	}
}

func (d *decoder) givenTwice(f, first *Field, path string) {
	where := ""
	if first.Line > 0 {
		where = fmt.Sprintf(", first in line %d", first.Line)
	}
	if first.Value.File != f.Value.File {
		where += " of " + first.Value.File
	}
	d.fail(path, f.Value.File, f.Line, f.Column, "is given twice%s (allowed: once)", where)
}

// field is value, and guards against a scalar that would be taken for an absent one.
func (d *decoder) field(n *Node, v reflect.Value, path string) {
	before := len(d.errs)
	d.value(n, v, path)
	scalar := n.Kind == String || n.Kind == Number
	if scalar && v.IsZero() && len(d.errs) == before {
		d.fail(path, n.File, n.Line, n.Column, "is %s (allowed: leave it out, or give a value)", cmp.Or(n.Text, "empty"))
	}
}

func (d *decoder) unknownField(f *Field, path string, names []string) {
	guess := ""
	if name := nearest(f.Name, names); name != "" {
		guess = ", did you mean " + name + "?"
		d.markUnread(d.paths.field(path, name))
	}
	d.fail(d.paths.field(path, f.Name), f.Value.File, f.Line, f.Column, "unknown field%s (allowed: %s)", guess, strings.Join(names, ", "))
}

// structField is one that a document can give, by its name there.
type structField struct {
	name  string
	index []int // of reflect's FieldByIndex
}

func fieldNames(fields []structField) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// fieldsOf returns the fields of a struct; those of an embedded one stand in its place.
func (d *decoder) fieldsOf(t reflect.Type) []structField {
	fields, ok := d.fields[t]
	if ok {
		return fields
	}
	for _, f := range reflect.VisibleFields(t) {
		if !f.Anonymous {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, structField{name, f.Index})
		}
	}
	d.fields[t] = fields
	return fields
}
