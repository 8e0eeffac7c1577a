package nodegroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/marceloboeira/crowd/xds/internal/resources"
)

const (
	// maxFileBytes is some ten thousand groups.
	maxFileBytes = 4 << 20
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
	p := parser{document: document{file: path}}
	if len(text) > maxFileBytes {
		p.failAt(1, 1, "", "the file has %d bytes (allowed: at most %d)", len(text), maxFileBytes)
	} else if root := p.document.parse(text); root != nil {
		p.object(root, "", field{"groups", true, p.groupList})
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return p.groups, nil
}

type parser struct {
	document
	groups Groups
}

func (p *parser) groupList(n *yaml.Node, path string) {
	taken := map[string]bool{}
	p.list(n, path, "groups", func(item *yaml.Node, at string) {
		g := p.group(item, at)
		if g.Name != "" && taken[g.Name] {
			p.fail(item, at+".name", "%q is an earlier group's name (allowed: each once)", g.Name)
		}
		taken[g.Name] = true
		p.groups = append(p.groups, g)
	})
	for i, g := range p.groups {
		if last := len(p.groups) - 1; i < last && g.Match.everything() && n.Content[i].Kind == yaml.MappingNode && p.problems == nil {
			p.fail(n.Content[i], fmt.Sprintf("%s[%d].match", path, i),
				"takes every node and leaves none for the groups that follow (allowed: a condition, or the last place)")
		}
	}
}

func (p *parser) group(n *yaml.Node, path string) Group {
	var g Group
	p.object(n, path,
		field{"name", true, func(n *yaml.Node, path string) { g.Name = p.name(n, path) }},
		field{"match", false, func(n *yaml.Node, path string) { g.Match = p.match(n, path) }},
		field{"routes", true, p.textInto(&g.Routes)},
		field{"filter", false, p.textInto(&g.Filter)},
		field{"gateway", false, p.addressInto(&g.Gateway, resources.ParseListen)},
		field{"collectors", false, func(n *yaml.Node, path string) {
			p.list(n, path, "addresses", func(n *yaml.Node, path string) {
				var collector string
				p.addressInto(&collector, resources.ParseRemote)(n, path)
				g.Collectors = append(g.Collectors, collector)
			})
		}},
		field{"upstream", false, p.addressInto(&g.Upstream, resources.ParseRemote)},
	)
	if g.Routes != "" && !filepath.IsAbs(g.Routes) {
		g.Routes = filepath.Join(filepath.Dir(p.file), g.Routes)
	}
	return g
}

func (p *parser) name(n *yaml.Node, path string) string {
	name, ok := p.text(n, path)
	if ok && (name == "" || name[0] == '.' || len(name) > maxNameLength || strings.Trim(name, nameCharacters) != "") {
		p.fail(n, path, "%.80q is not a name (%s)", name, nameForm)
		return ""
	}
	return name
}

func (p *parser) addressInto(to *string, parse func(string) (resources.Address, error)) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := p.text(n, path)
		if !ok {
			return
		}
		if _, err := parse(text); err != nil {
			p.fail(n, path, "%v", err)
		}
		*to = text
	}
}

func (p *parser) match(n *yaml.Node, path string) Match {
	var m Match
	p.object(n, path,
		field{"cluster", false, func(n *yaml.Node, path string) { m.Cluster = p.textMatch(n, path) }},
		field{"id", false, func(n *yaml.Node, path string) { m.ID = p.textMatch(n, path) }},
		field{"metadata", false, func(n *yaml.Node, path string) {
			p.list(n, path, "conditions", func(n *yaml.Node, path string) {
				m.Metadata = append(m.Metadata, p.metadataMatch(n, path))
			})
		}},
	)
	return m
}

func (p *parser) metadataMatch(n *yaml.Node, path string) MetadataMatch {
	var m MetadataMatch
	p.object(n, path,
		field{"path", true, func(n *yaml.Node, path string) {
			p.list(n, path, "keys", func(n *yaml.Node, path string) {
				key, _ := p.text(n, path)
				m.Path = append(m.Path, key)
			})
		}},
		field{"value", true, func(n *yaml.Node, path string) { m.Value = *p.textMatch(n, path) }},
	)
	return m
}

// textMatch never returns nil.
func (p *parser) textMatch(n *yaml.Node, path string) *TextMatch {
	m, given := &TextMatch{}, 0
	p.object(n, path,
		field{"exact", false, func(n *yaml.Node, path string) {
			given++
			if text, ok := p.text(n, path); ok {
				m.Exact = &text
			}
		}},
		field{"prefix", false, func(n *yaml.Node, path string) { given++; p.textInto(&m.Prefix)(n, path) }},
		field{"safe_regex", false, func(n *yaml.Node, path string) {
			given++
			text, ok := p.text(n, path)
			if !ok {
				return
			}
			var err error
			if m.SafeRegex, err = compileRegex(text); err != nil {
				p.fail(n, path, "%v", err)
			}
		}},
	)
	if given != 1 && n.Kind == yaml.MappingNode {
		p.fail(n, path, "has %d conditions (allowed: one of exact, prefix, safe_regex)", given)
	}
	return m
}
