package route

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// ChangeKind says what became of a route.
type ChangeKind uint8

// The kinds of changes.
const (
	Added   ChangeKind = iota // the route is new
	Removed                   // the route is gone
	Changed                   // a field is another
	Moved                     // the route is tried earlier or later than others that stayed
)

// Change is one difference between two documents.
type Change struct {
	Kind ChangeKind
	// Route is the route's name, "" where the change is of no single one.
	Route string
	// Field is the path of what Changed, in the route or in the document.
	Field string
	// Before and After are the field's values as JSON, "" for none; of a route that is new, gone or Moved, the number of its
	// place, from 1.
	Before, After string
}

// Diff returns what is different for requests and records when b takes the place of a: routes are known by their names,
// and have all defaults filled in. Both documents must be valid. First comes what is of no single route, then routes in
// the order of b, and last those that are gone.
func Diff(a, b Config) []Change {
	changes := fieldChanges("", "uplink.", a.Uplink.withDefaults(), b.Uplink.withDefaults())
	before, after := byName(a), byName(b)
	stays := longestAscent(b.Routes, before)
	for i, r := range b.Routes {
		old, ok := before[r.Name]
		if !ok {
			changes = append(changes, Change{Kind: Added, Route: r.Name, After: strconv.Itoa(i + 1)})
			continue
		}
		if !stays[r.Name] {
			changes = append(changes, Change{
				Kind: Moved, Route: r.Name, Before: strconv.Itoa(old.place + 1), After: strconv.Itoa(i + 1),
			})
		}
		changes = append(changes, fieldChanges(r.Name, "", old.route, after[r.Name].route)...)
	}
	for i, r := range a.Routes {
		if _, ok := after[r.Name]; !ok {
			changes = append(changes, Change{Kind: Removed, Route: r.Name, Before: strconv.Itoa(i + 1)})
		}
	}
	return changes
}

// placed is a route and its place in the document, from 0.
type placed struct {
	route Route
	place int
}

// byName returns the routes with defaults filled in, and nothing in them that has no meaning.
func byName(c Config) map[string]placed {
	defaults := c.withDefaults()
	routes := make(map[string]placed, len(c.Routes))
	for i, r := range c.Routes {
		r.Policy = r.over(defaults)
		if r.Mode == ModeMirror {
			r.Ack, r.AckTimeout, r.Answer = "", 0, nil
		}
		if r.RateLimit != nil {
			r.RateLimit = new(r.RateLimit.withDefaults())
		}
		routes[r.Name] = placed{r, i}
	}
	return routes
}

// longestAscent returns the names of the most routes that follow each other as they did before: all others moved.
func longestAscent(routes []Route, before map[string]placed) map[string]bool {
	type link struct {
		name     string
		place    int
		previous int // index in links; -1 for none
	}
	var links []link
	var ends []int // indexes in links: the end with the lowest place of each length
	for _, r := range routes {
		old, ok := before[r.Name]
		if !ok {
			continue
		}
		length, _ := slices.BinarySearchFunc(ends, old.place, func(end, place int) int { return cmp.Compare(links[end].place, place) })
		previous := -1
		if length > 0 {
			previous = ends[length-1]
		}
		links = append(links, link{r.Name, old.place, previous})
		if length == len(ends) {
			ends = append(ends, 0)
		}
		ends[length] = len(links) - 1
	}
	stays := map[string]bool{}
	if len(ends) > 0 {
		for i := ends[len(ends)-1]; i >= 0; i = links[i].previous {
			stays[links[i].name] = true
		}
	}
	return stays
}

// fieldChanges compares two values of one type field by field; lists are compared whole.
func fieldChanges(route, path string, a, b any) []Change {
	before, after := map[string]string{}, map[string]string{}
	flatten(before, path, a)
	flatten(after, path, b)
	fields := maps.Clone(before)
	maps.Copy(fields, after)
	var changes []Change
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if before[field] != after[field] {
			changes = append(changes, Change{Kind: Changed, Route: route, Field: field, Before: before[field], After: after[field]})
		}
	}
	return changes
}

// flatten puts the JSON of all fields of a value into fields, by their paths.
func flatten(fields map[string]string, path string, value any) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false) // people read it, and regular expressions have such characters
	if err := encoder.Encode(value); err != nil {
		panic(fmt.Sprintf("BUG: a valid document has no JSON: %v", err))
	}
	text := bytes.TrimSpace(buffer.Bytes())
	var group map[string]json.RawMessage
	if bytes.HasPrefix(text, []byte("{")) && json.Unmarshal(text, &group) == nil {
		for name, field := range group {
			flatten(fields, path+name+".", field)
		}
		return
	}
	fields[path[:len(path)-1]] = string(text)
}
