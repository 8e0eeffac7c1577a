package nodegroup

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Match holds for a node when everything given in it holds. The zero value holds for every node.
type Match struct {
	Cluster  *TextMatch
	ID       *TextMatch
	Metadata []MetadataMatch
}

// MetadataMatch holds when the node's metadata has a text at the path, and Value holds for it.
type MetadataMatch struct {
	Path  []string
	Value TextMatch
}

// TextMatch is a condition on the whole of a text. One field is given.
type TextMatch struct {
	Exact     *string
	Prefix    string
	SafeRegex *regexp.Regexp
}

// everything reports whether m holds for every node.
func (m Match) everything() bool { return m.Cluster == nil && m.ID == nil && len(m.Metadata) == 0 }

func (m Match) holds(node *corev3.Node) bool {
	if m.Cluster != nil && !m.Cluster.holds(node.GetCluster()) || m.ID != nil && !m.ID.holds(node.GetId()) {
		return false
	}
	for _, condition := range m.Metadata {
		if !condition.holds(node.GetMetadata()) {
			return false
		}
	}
	return true
}

func (m MetadataMatch) holds(metadata *structpb.Struct) bool {
	value := structpb.NewStructValue(metadata)
	for _, key := range m.Path {
		value = value.GetStructValue().GetFields()[key]
	}
	text, ok := value.GetKind().(*structpb.Value_StringValue)
	return ok && m.Value.holds(text.StringValue)
}

func (m TextMatch) holds(text string) bool {
	switch {
	case m.Exact != nil:
		return text == *m.Exact
	case m.SafeRegex != nil:
		return m.SafeRegex.MatchString(text)
	default:
		return strings.HasPrefix(text, m.Prefix)
	}
}

// maxRegexLength is more than anybody needs to tell nodes apart.
const maxRegexLength = 1024

// compileRegex compiles an RE2 expression that must match the whole of a text, as Envoy's must.
func compileRegex(expr string) (*regexp.Regexp, error) {
	if len(expr) > maxRegexLength {
		return nil, fmt.Errorf("is %d bytes long (allowed: at most %d)", len(expr), maxRegexLength)
	}
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("is not a regular expression: %w (allowed: RE2 syntax)", err)
	}
	// The canonical form is wrapped, not what was written: \Q without \E would swallow the wrapping.
	regex, err := regexp.Compile(`\A(?:` + parsed.String() + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("is not a regular expression: %w (allowed: RE2 syntax)", err)
	}
	return regex, nil
}
