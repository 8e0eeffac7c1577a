package nodegroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/marceloboeira/crowd/xds/internal/resources"
	"github.com/marceloboeira/crowd/xds/route"
	"github.com/marceloboeira/crowd/xds/route/routefile"
)

const (
	// maxNameLength keeps names readable as labels and possible as file names.
	maxNameLength = 64

	nameCharacters = "abcdefghijklmnopqrstuvwxyz0123456789_.-"
	nameForm       = "allowed: a-z, 0-9, _, - and ., but no . in front; at most 64 characters"
)

// Load reads the groups file at path (see Parse).
func Load(path string) (Groups, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	return Parse(path, text)
}

// Parse reads a groups file. Paths of routes in it are relative to its directory. Whatever is wrong comes back at once,
// as a routefile.Errors.
func Parse(path string, text []byte) (Groups, error) {
	doc, err := routefile.Decode[document](routefile.File{Name: path, Text: text})
	if err != nil {
		return nil, err
	}
	for i := range doc.Groups {
		if routes := &doc.Groups[i].Routes; !filepath.IsAbs(*routes) {
			*routes = filepath.Join(filepath.Dir(path), *routes)
		}
	}
	return doc.Groups, nil
}

// document is a whole file.
type document struct {
	Groups Groups `json:"groups"`
}

// Validate implements route.Document.
func (d document) Validate() []route.FieldError {
	var r report
	if len(d.Groups) == 0 {
		r.addf("groups", "is missing or empty (allowed: a list of at least one group)")
	}
	taken := map[string]bool{}
	for i, g := range d.Groups {
		at := fmt.Sprintf("groups[%d]", i)
		g.validate(&r, at)
		if taken[g.Name] && g.Name != "" {
			r.addf(at+".name", "%q is an earlier group's name (allowed: each once)", g.Name)
		}
		taken[g.Name] = true
		if i < len(d.Groups)-1 && g.Match.everything() {
			r.addf(at+".match", "takes every node and leaves none for the groups that follow (allowed: a condition, or the last place)")
		}
	}
	return r
}

// report gathers what is wrong.
type report []route.FieldError

func (r *report) addf(path, format string, args ...any) {
	*r = append(*r, route.FieldError{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (g Group) validate(r *report, at string) {
	switch name := g.Name; {
	case name == "":
		r.addf(at+".name", "is missing (%s)", nameForm)
	case name[0] == '.' || len(name) > maxNameLength || strings.Trim(name, nameCharacters) != "":
		r.addf(at+".name", "%.80q is not a name (%s)", name, nameForm)
	}
	g.Match.validate(r, at+".match")
	if g.Routes == "" {
		r.addf(at+".routes", "is missing (allowed: a file or directory)")
	}
	address := func(path, text string, parse func(string) (resources.Address, error)) {
		if _, err := parse(text); err != nil {
			r.addf(path, "%v", err)
		}
	}
	if g.Gateway != "" {
		address(at+".gateway", g.Gateway, resources.ParseListen)
	}
	if g.Collectors != nil && len(g.Collectors) == 0 {
		r.addf(at+".collectors", "is empty (allowed: leave it out, or give at least one address)")
	}
	for i, c := range g.Collectors {
		address(fmt.Sprintf("%s.collectors[%d]", at, i), c, resources.ParseRemote)
	}
	if g.Upstream != "" {
		address(at+".upstream", g.Upstream, resources.ParseRemote)
	}
}

func (m Match) validate(r *report, at string) {
	m.Cluster.validate(r, at+".cluster")
	m.ID.validate(r, at+".id")
	for i, condition := range m.Metadata {
		at := fmt.Sprintf("%s.metadata[%d]", at, i)
		if len(condition.Path) == 0 {
			r.addf(at+".path", "is missing or empty (allowed: a list of at least one key)")
		}
		condition.Value.validate(r, at+".value")
	}
}

// validate checks a condition; m may be nil.
func (m *TextMatch) validate(r *report, at string) {
	if m == nil {
		return
	}
	given := 0
	for _, is := range []bool{m.Exact != nil, m.Prefix != "", m.SafeRegex != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		r.addf(at, "has %d conditions (allowed: one of exact, prefix, safe_regex)", given)
	}
}
