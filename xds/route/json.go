package route

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth is more than any document of the language needs.
const maxDepth = 32

// ParseJSON reads a document, strictly, and validates it: what the filter does with its plugin configuration.
// The error joins everything that is wrong.
func ParseJSON(data []byte) (Config, error) {
	doc, err := jsonNode(data)
	if err != nil {
		return Config{}, fmt.Errorf("read routes as JSON: %w", err)
	}
	c, errs := Decode(doc)
	if err := joinErrors(errs); err != nil {
		return Config{}, err
	}
	return c, nil
}

func jsonNode(data []byte) (Node, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return Node{Kind: Null}, nil
	}
	if !utf8.Valid(data) {
		return Node{}, errors.New("not UTF-8")
	}
	// Checked whole first, so that what follows meets no syntax error.
	if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
		if at := (*json.SyntaxError)(nil); errors.As(err, &at) {
			return Node{}, fmt.Errorf("byte %d: %w", at.Offset, err)
		}
		return Node{}, err
	}
	tokens := json.NewDecoder(bytes.NewReader(data))
	tokens.UseNumber()
	return readJSON(tokens, 0)
}

func readJSON(tokens *json.Decoder, depth int) (Node, error) {
	if depth > maxDepth {
		return Node{}, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	token, err := tokens.Token()
	if err != nil {
		return Node{}, err
	}
	switch token := token.(type) {
	case bool:
		return Node{Kind: Bool, Text: fmt.Sprint(token)}, nil
	case json.Number:
		return Node{Kind: Number, Text: token.String()}, nil
	case string:
		return Node{Kind: String, Text: token}, nil
	case json.Delim:
		return readJSONGroup(tokens, token, depth)
	}
	return Node{Kind: Null}, nil
}

// readJSONGroup reads the rest of what open began.
func readJSONGroup(tokens *json.Decoder, open json.Delim, depth int) (Node, error) {
	n := Node{Kind: List}
	if open == '{' {
		n.Kind = Object
	}
	for tokens.More() {
		name := ""
		if n.Kind == Object {
			token, err := tokens.Token()
			if err != nil {
				return Node{}, err
			}
			name = token.(string)
		}
		value, err := readJSON(tokens, depth+1)
		if err != nil {
			return Node{}, err
		}
		if n.Kind == Object {
			n.Fields = append(n.Fields, Field{Name: name, Value: value})
		} else {
			n.Items = append(n.Items, value)
		}
	}
	_, err := tokens.Token()
	return n, err
}
