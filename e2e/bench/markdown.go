package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// markdown returns the tables, with a line on how they came about.
func (r *report) markdown() string {
	var b strings.Builder
	for _, in := range r.cells() {
		fmt.Fprintf(&b, "**%s, %d connections**\n\n", bytesText(in.Body), in.Connections)
		r.table(&b, in)
		if in == targetCell {
			r.targets(&b, in)
		}
		fmt.Fprint(&b, "\n")
	}
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		versions = append(versions, name+" "+r.Versions[name])
	}
	fmt.Fprintf(&b, "Medians (least–most) of %d interleaved rounds of %s each; %s, %s; %s. Envoy has one worker; the load has the same cores.\n",
		r.Rounds, r.Duration, r.Date, r.Machine, strings.Join(versions, ", "))
	return b.String()
}

func (r *report) table(b *strings.Builder, in cell) {
	fmt.Fprint(b, "| | answers after | requests/s | p50 ms | p99 ms | CPU µs: Envoy | collector, server | Kafka | load | "+
		"MiB: Envoy | collector, server | answered | arrived | late |\n")
	fmt.Fprintln(b, strings.Repeat("| --- ", 14)+"|")
	for _, c := range contestants {
		all := r.of(c.name, in)
		if len(all) == 0 {
			continue
		}
		cpu := func(process string) string {
			return used(all, "%.1f", process, func(m Measurement, name string) float64 { return m.CPU[name] })
		}
		resident := func(process string) string {
			return used(all, "%.0f", process, func(m Measurement, name string) float64 { return float64(m.Resident[name]) / (1 << 20) })
		}
		rate, p99 := spreadOf(all, rateOf), spreadOf(all, p99Of)
		p50 := spreadOf(all, func(m Measurement) float64 { return m.P50 })
		fmt.Fprintf(b, "| %s | %s | %.0f (%.0f–%.0f) | %.2f | %.2f (%.2f–%.2f) | %s | %s | %s | %s | %s | %s | %s |\n",
			c.title, c.answer, rate.median, rate.least, rate.most, p50.median, p99.median, p99.least, p99.most,
			cpu(envoyProcess), cpu(backProcess), cpu(kafkaProcess), cpu(loadProcess), resident(envoyProcess), resident(backProcess), counts(all))
	}
}

// counts returns the last columns: answers, records, and how many of them came when the load had ended.
func counts(all []Measurement) string {
	var answered, refused, unanswered, arrived int
	for _, m := range all {
		answered += m.Answered
		refused += m.Refused
		unanswered += m.Unanswered
		arrived += m.Arrived
	}
	text := fmt.Sprint(answered)
	if refused > 0 {
		text += fmt.Sprintf(", %d refused", refused)
	}
	if unanswered > 0 {
		text += fmt.Sprintf(", %d without answer", unanswered)
	}
	if all[0].Arrived < 0 {
		return text + " | | "
	}
	late := spreadOf(all, func(m Measurement) float64 { return float64(m.Behind) })
	return text + fmt.Sprintf(" | %d | %.0f", arrived, late.median)
}

// used returns the median of what one process of a system used; empty: there is none.
func used(all []Measurement, format, name string, of func(m Measurement, name string) float64) string {
	if _, has := all[0].CPU[name]; !has {
		return ""
	}
	return fmt.Sprintf(format, spreadOf(all, func(m Measurement) float64 { return of(m, name) }).median)
}

func bytesText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
