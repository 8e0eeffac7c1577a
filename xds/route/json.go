package route

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
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
	c, errs := Decode[Config](doc)
	if err := joinErrors(errs); err != nil {
		return Config{}, err
	}
	return c, nil
}

func jsonNode(data []byte) (Node, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return Node{Kind: Null}, nil
	}
	// Decode tells people of duplicates.
	tokens := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true))
	n, err := readJSON(tokens, 0)
	if err != nil {
		return Node{}, err
	}
	if _, err := tokens.ReadToken(); !errors.Is(err, io.EOF) {
		return Node{}, fmt.Errorf("byte %d: something follows the document", tokens.InputOffset())
	}
	return n, nil
}

func readJSON(tokens *jsontext.Decoder, depth int) (Node, error) {
	if depth > maxDepth {
		return Node{}, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	token, err := tokens.ReadToken()
	if err != nil {
		return Node{}, err
	}
	switch token.Kind() {
	case jsontext.KindTrue, jsontext.KindFalse:
		return Node{Kind: Bool, Text: token.String()}, nil
	case jsontext.KindNumber:
		return Node{Kind: Number, Text: token.String()}, nil
	case jsontext.KindString:
		return Node{Kind: String, Text: token.String()}, nil
	case jsontext.KindBeginArray:
		n := Node{Kind: List}
		for tokens.PeekKind() != jsontext.KindEndArray {
			item, err := readJSON(tokens, depth+1)
			if err != nil {
				return Node{}, err
			}
			n.Items = append(n.Items, item)
		}
		_, err := tokens.ReadToken()
		return n, err
	case jsontext.KindBeginObject:
		n := Node{Kind: Object}
		for tokens.PeekKind() != jsontext.KindEndObject {
			name, err := tokens.ReadToken()
			if err != nil {
				return Node{}, err
			}
			text := name.String() // valid until the next token
			value, err := readJSON(tokens, depth+1)
			if err != nil {
				return Node{}, err
			}
			n.Fields = append(n.Fields, Field{Name: text, Value: value})
		}
		_, err := tokens.ReadToken()
		return n, err
	}
	return Node{Kind: Null}, nil
}
