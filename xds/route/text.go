package route

import (
	"fmt"
	"strings"
)

// recordID is the one operator of answers.
const recordID = "RECORD_ID"

// Text is what an answer says, with the record's id where the document has %RECORD_ID%. It is immutable.
type Text struct {
	// parts are what stands between the ids.
	parts []string
	// fixed is the whole of a text without an id.
	fixed []byte
}

func parseText(format string) (Text, error) {
	var t Text
	var part strings.Builder
	for rest := format; ; {
		text, after, found := strings.Cut(rest, "%")
		part.WriteString(text)
		if !found {
			break
		}
		operator, after, closed := strings.Cut(after, "%")
		switch {
		case closed && operator == "":
			part.WriteByte('%')
		case closed && operator == recordID:
			t.parts = append(t.parts, part.String())
			part.Reset()
		default:
			return Text{}, fmt.Errorf("%s has a %% that is no operator (allowed: %%%s%%, and %%%% for a percent sign)", quote(format), recordID)
		}
		rest = after
	}
	if len(t.parts) == 0 {
		t.fixed = []byte(part.String())
	}
	t.parts = append(t.parts, part.String())
	return t, nil
}

// With returns the text for the record of this id. The caller must not change it.
func (t Text) With(id string) []byte {
	if len(t.parts) <= 1 {
		return t.fixed
	}
	return []byte(strings.Join(t.parts, id))
}

// empty reports whether the text is, whatever the id.
func (t Text) empty() bool { return len(t.parts) <= 1 && len(t.fixed) == 0 }
