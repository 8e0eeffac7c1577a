package nodegroup

import (
	"regexp"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/marceloboeira/crowd/xds/route"
)

// Match holds for a node when everything given in it holds. The zero value holds for every node.
type Match struct {
	Cluster  *TextMatch      `json:"cluster"`
	ID       *TextMatch      `json:"id"`
	Metadata []MetadataMatch `json:"metadata"`
}

// MetadataMatch holds when the node's metadata has a text at the path, and Value holds for it.
type MetadataMatch struct {
	Path  []string  `json:"path"`
	Value TextMatch `json:"value"`
}

// TextMatch is a condition on the whole of a text. One field is given.
type TextMatch struct {
	Exact     *string `json:"exact"`
	Prefix    string  `json:"prefix"`
	SafeRegex *Regex  `json:"safe_regex"`
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

// Regex is an RE2 expression that must match the whole of a text.
type Regex struct{ *regexp.Regexp }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Regex) UnmarshalText(text []byte) (err error) {
	r.Regexp, err = route.CompileRegex(string(text))
	return err
}
