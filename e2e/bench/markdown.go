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
			fmt.Fprint(&b, "\n")
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
	fmt.Fprint(b, "| | answers after | requests/s | p50 ms | p99 ms | CPU µs: Envoy | behind it | Kafka | load | MiB: Envoy | behind it | answers | records |\n")
	fmt.Fprint(b, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, c := range contestants {
		all := r.of(c.name, in)
		if len(all) == 0 {
			continue
		}
		cpu := func(process string) string {
			return r.process(all, "%.1f", process, func(m Measurement, name string) float64 { return m.CPU[name] })
		}
		resident := func(process string) string {
			return r.process(all, "%.0f", process, func(m Measurement, name string) float64 { return float64(m.Resident[name]) / (1 << 20) })
		}
		answered, arrived := 0, 0
		for _, m := range all {
			answered += m.Answered
			arrived += m.Arrived
		}
		records := fmt.Sprint(arrived)
		if arrived < 0 {
			records = ""
		}
		rate := spreadOf(all, func(m Measurement) float64 { return m.Rate })
		p50 := spreadOf(all, func(m Measurement) float64 { return m.P50 })
		p99 := spreadOf(all, func(m Measurement) float64 { return m.P99 })
		fmt.Fprintf(b, "| %s | %s | %.0f (%.0f–%.0f) | %.2f | %.2f (%.2f–%.2f) | %s | %s | %s | %s | %s | %s | %d | %s |\n",
			c.title, c.answer, rate.median, rate.least, rate.most, p50.median, p99.median, p99.least, p99.most,
			cpu(envoyProcess), cpu(backProcess), cpu(kafkaProcess), cpu(loadProcess), resident(envoyProcess), resident(backProcess), answered, records)
	}
}

// process returns the median of what one process of a system used; empty: there is none.
func (r *report) process(all []Measurement, format, process string, of func(m Measurement, process string) float64) string {
	if _, has := all[0].CPU[process]; !has {
		return ""
	}
	return fmt.Sprintf(format, spreadOf(all, func(m Measurement) float64 { return of(m, process) }).median)
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
