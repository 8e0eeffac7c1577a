package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// BenchmarkGrowth says what grows, and what does not, with routes, uplinks, collectors, what waits in a spool, and time.
// Each part prints a table in Markdown. What a part compares runs in turn, so that whatever else happens on the machine
// happens to all, and medians are taken.
func BenchmarkGrowth(b *testing.B) {
	b.Run("routes", growthOfRoutes)
	b.Run("uplinks", growthOfUplinks)
	b.Run("collectors", growthOfCollectors)
	b.Run("backlog", growthOfBacklog)
	b.Run("time", growthOverTime)
}

// growthRounds is how many rounds are measured, after one that is not.
const growthRounds = 5

// table is one in Markdown.
type table struct {
	title string
	rows  [][]string // the head is the first
}

func newTable(title string, head ...string) *table { return &table{title, [][]string{head}} }

// add appends a row. Numbers have few digits, as the machine is noisy.
func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		switch c := c.(type) {
		case float64:
			row[i] = fmt.Sprintf("%.*f", map[bool]int{true: 0, false: 2}[c >= 100], c)
		default:
			row[i] = fmt.Sprint(c)
		}
	}
	t.rows = append(t.rows, row)
}

// print writes it to the standard output: what a benchmark logs is cut off after ten lines.
func (t *table) print() {
	var text strings.Builder
	fmt.Fprintf(&text, "\n\n**%s**\n\n", t.title)
	for i, row := range t.rows {
		fmt.Fprintf(&text, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&text, "|%s\n", strings.Repeat(" --- |", len(row)))
		}
	}
	fmt.Fprintln(os.Stdout, text.String())
}

// medianOf returns the median of one figure of rounds.
func medianOf[R any](rounds []R, figure func(R) float64) float64 {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = figure(r)
	}
	return median(values)
}

// inTurn has each of several measured in every round, and returns what it came to, without the round that only warms up.
func inTurn[S, R any](sides []S, measure func(S) R) [][]R {
	results := make([][]R, len(sides))
	for range 1 + growthRounds {
		for i, s := range sides {
			results[i] = append(results[i], measure(s))
		}
	}
	for i := range results {
		results[i] = slices.Delete(results[i], 0, 1)
	}
	return results
}
