package xds

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/marceloboeira/crowd/xds/internal/rollout"
	"github.com/marceloboeira/crowd/xds/internal/server"
)

// Status is what a Server knows of its groups and their nodes, and the JSON of /status.
type Status = server.Status

// statusTimeout is how long a server may take to answer.
const statusTimeout = 10 * time.Second

// FetchStatus asks the server whose admin interface is at address, host:port.
func FetchStatus(ctx context.Context, address string) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/status", nil)
	if err != nil {
		return Status{}, fmt.Errorf("status of %s: want host:port: %w", address, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		if of := (*url.Error)(nil); errors.As(err, &of) {
			err = of.Err // which does not say again what was asked of whom
		}
		return Status{}, fmt.Errorf("status of %s: %w", address, err)
	}
	defer response.Body.Close()
	var status Status
	if response.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("status of %s: %s; is that the admin address of crowd xds?", address, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
		return Status{}, fmt.Errorf("status of %s: %w; is that the admin address of crowd xds?", address, err)
	}
	return status, nil
}

// WriteStatus writes what several servers say as one table of groups and one of nodes. Times are how long ago it was.
func WriteStatus(w io.Writer, all []Status, now time.Time) error {
	type line struct {
		order []string
		cells []string
	}
	var groups, nodes []line
	for _, s := range all {
		for _, g := range s.Groups {
			why := ""
			if g.Rejection != nil {
				why = "node " + g.Rejection.Node + ": " + rejected(*g.Rejection, now)
			}
			groups = append(groups, line{[]string{g.Name, s.Server}, []string{
				g.Name, s.Server, stageNames[g.Stage], age(g.Since, now), g.Good, g.Candidate, why,
			}})
		}
		for _, n := range s.Nodes {
			connected, canary := age(n.ConnectedSince, now), ""
			if !n.DisconnectedSince.IsZero() {
				connected = "gone " + age(n.DisconnectedSince, now)
			}
			if n.Canary {
				canary = "yes"
			}
			var rejections []string
			for _, r := range n.Rejections {
				rejections = append(rejections, rejected(r, now))
			}
			nodes = append(nodes, line{[]string{n.Group, n.ID, s.Server}, []string{
				n.ID, n.Group, canary, s.Server, connected, n.Wanted, age(n.WantedSince, now), n.Acknowledged, age(n.AcknowledgedSince, now),
				strings.Join(rejections, "; "),
			}})
		}
	}

	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	write := func(header string, lines []line) {
		fmt.Fprintln(table, header)
		slices.SortStableFunc(lines, func(a, b line) int { return slices.Compare(a.order, b.order) })
		for _, l := range lines {
			for i, cell := range l.cells {
				l.cells[i] = cmp.Or(plain(cell), "-")
			}
			fmt.Fprintln(table, strings.Join(l.cells, "\t"))
		}
	}
	write("GROUP\tSERVER\tSTATE\tFOR\tGOOD\tCANDIDATE\tROLLED BACK", groups)
	fmt.Fprintln(table)
	write("NODE\tGROUP\tCANARY\tSERVER\tCONNECTED\tWANTED\tFOR\tACKNOWLEDGED\tFOR\tREJECTED", nodes)
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

var stageNames = map[rollout.Stage]string{
	rollout.Idle:       "nothing offered",
	rollout.Canaries:   "rolling out to canaries",
	rollout.Holding:    "holding",
	rollout.Everyone:   "rolling out to everyone",
	rollout.Done:       "done",
	rollout.RolledBack: "rolled back",
}

func rejected(r rollout.Rejection, now time.Time) string {
	what := cmp.Or(r.Version, "an earlier version")
	if r.Type != "" {
		what = r.Type + " of " + what
	}
	return fmt.Sprintf("%s, %s ago: %s", what, age(r.At, now), r.Reason)
}

// age is how long ago t was, or "" if it never was.
func age(t, now time.Time) string {
	const day = 24 * time.Hour
	if t.IsZero() {
		return ""
	}
	switch d := max(0, now.Sub(t)); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/day)
	}
}

// plain makes one line of what an Envoy said, without anything that a terminal could take for a command.
func plain(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)), " ")
}
