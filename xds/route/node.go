package route

import (
	"strconv"
	"strings"
)

// Kind says what a Node is.
type Kind uint8

// The kinds of values that a document can hold.
const (
	// Unreadable is a value that the document's syntax allows and the route language does not; the node's
	// Text says so, as a FieldError's message.
	Unreadable Kind = iota
	Null
	Bool
	Number
	String
	List
	Object
)

// String returns the kind as messages name it.
func (k Kind) String() string {
	return [...]string{"unreadable", "nothing", "true or false", "a number", "text", "a list", "a group of fields"}[k]
}

// Node is a document, or a value in one, whatever syntax it was written in.
type Node struct {
	Kind Kind
	// Text is what a Bool, Number or String says: "true" or "false", the digits as written, the text.
	Text string
	// Items are those of a List.
	Items []Node
	// Fields are those of an Object, in order and with duplicates.
	Fields []Field
	// File, Line and Column are where the value begins, counted from 1; "" and 0 when unknown.
	File         string
	Line, Column int
}

// Field is one field of an Object.
type Field struct {
	Name string
	// Line and Column are where the name stands, counted from 1; 0 when unknown.
	Line, Column int
	Value        Node
}

// Locate fills in where the field of e stands, or the innermost value around it when the document has none there.
func (n *Node) Locate(e *FieldError) {
	path := e.Path
	for at := n; at != nil; at, path = at.child(path) {
		e.File, e.Line, e.Column = at.File, at.Line, at.Column
	}
}

// child returns the node that the first step of path leads to, nil when there is none, and the path's rest.
func (n *Node) child(path string) (next *Node, rest string) {
	if path == "" {
		return nil, ""
	}
	if index, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]"); ok && strings.HasPrefix(path, "[") {
		i, err := strconv.Atoi(index)
		if err != nil || i >= len(n.Items) {
			return nil, ""
		}
		return &n.Items[i], rest
	}
	path = strings.TrimPrefix(path, ".")
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		end = len(path)
	}
	for i := range n.Fields {
		if n.Fields[i].Name == path[:end] {
			return &n.Fields[i].Value, path[end:]
		}
	}
	return nil, ""
}
