package main

import (
	"fmt"
	"strings"
)

// targetCell is what the targets are for.
var targetCell = cell{Body: 512, Connections: 64}

// target is a bound for a figure, in one contestant or, as a ratio, between two. Ratios are formed within rounds.
type target struct {
	what    string
	of, to  string // contestants; to may be empty
	figure  func(Measurement) float64
	format  string
	bound   float64
	atLeast bool // otherwise at most
}

func rateOf(m Measurement) float64     { return m.Rate }
func p99Of(m Measurement) float64      { return m.P99 }
func envoyCPUOf(m Measurement) float64 { return m.CPU[envoyProcess] }

// targets are for two cores.
var targets = []target{
	{what: "`memory`: Envoy's CPU ÷ its own answer's", of: memory, to: answering, figure: envoyCPUOf, format: "%.2f", bound: 1.3},
	{what: "`memory`: requests/s ÷ Go's, not waiting", of: memory, to: goAsync, figure: rateOf, format: "%.2f", bound: 0.8, atLeast: true},
	{what: "`memory`: p99 ÷ Go's, not waiting", of: memory, to: goAsync, figure: p99Of, format: "%.2f", bound: 0.5},
	{what: "`kafka`: requests/s ÷ Go's, waiting", of: kafkaAck, to: goSync, figure: rateOf, format: "%.2f", bound: 1.5, atLeast: true},
	{what: "`memory`: requests/s", of: memory, figure: rateOf, format: "%.0f", bound: 48_000, atLeast: true},
	{what: "`memory`: p99, ms", of: memory, figure: p99Of, format: "%.2f", bound: 3},
	{what: "`memory`: CPU of Envoy and collector, µs", of: memory, figure: Measurement.server, format: "%.1f", bound: 27},
	{what: "`disk`: requests/s", of: disk, figure: rateOf, format: "%.0f", bound: 32_000, atLeast: true},
	{what: "`disk`: CPU of Envoy and collector, µs", of: disk, figure: Measurement.server, format: "%.1f", bound: 36},
	{what: "`kafka`: requests/s", of: kafkaAck, figure: rateOf, format: "%.0f", bound: 38_000, atLeast: true},
	{what: "`kafka`: p99, ms", of: kafkaAck, figure: p99Of, format: "%.2f", bound: 5},
	{what: "`kafka`: CPU of Envoy and collector, µs", of: kafkaAck, figure: Measurement.server, format: "%.1f", bound: 34},
}

// measured returns what came of it; false: it was not measured.
func (t target) measured(r *report, in cell) (spread, bool) {
	of := r.of(t.of, in)
	if len(of) == 0 {
		return spread{}, false
	}
	if t.to == "" {
		return spreadOf(of, t.figure), true
	}
	var ratios []float64
	for i, to := range r.of(t.to, in) {
		ratios = append(ratios, t.figure(of[i])/t.figure(to))
	}
	if len(ratios) == 0 {
		return spread{}, false
	}
	return newSpread(ratios), true
}

func (t target) reached(s spread) bool {
	if t.atLeast {
		return s.median >= t.bound
	}
	return s.median <= t.bound
}

// targets writes a table of those that were measured, if any.
func (r *report) targets(b *strings.Builder, in cell) {
	head := "\n| target | | measured | reached |\n| --- | --- | --- | --- |\n"
	for _, t := range targets {
		s, ok := t.measured(r, in)
		if !ok {
			continue
		}
		sign, reached := "≤", "no"
		if t.atLeast {
			sign = "≥"
		}
		if t.reached(s) {
			reached = "yes"
		}
		fmt.Fprintf(b, head+"| %s | %s %g | "+t.format+" ("+t.format+"–"+t.format+") | %s |\n", t.what, sign, t.bound, s.median, s.least, s.most, reached)
		head = ""
	}
}
