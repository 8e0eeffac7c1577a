package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"

	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/envoy"
)

// report is a whole run, as bench.json has it.
type report struct {
	Date         string            `json:"date"`
	Machine      string            `json:"machine"`
	Versions     map[string]string `json:"versions"`
	Duration     string            `json:"duration"`
	Rounds       int               `json:"rounds"`
	Measurements []Measurement     `json:"measurements"`
}

func newReport(o options) *report {
	r := &report{
		Date: time.Now().Format(time.DateOnly), Machine: machine(), Duration: o.duration.String(), Rounds: o.rounds,
		Versions: map[string]string{"Envoy": envoy.Version, "Kafka": kafka.Version, "Go": strings.TrimPrefix(runtime.Version(), "go"), "crowd": version},
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return r
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/IBM/sarama" {
			r.Versions["sarama"] = m.Version
		}
	}
	return r
}

func machine() string {
	text := fmt.Sprintf("%d cores", runtime.NumCPU())
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return text
	}
	if cpus, err := fs.CPUInfo(); err == nil && len(cpus) > 0 {
		text += " of " + cpus[0].ModelName
	}
	if memory, err := fs.Meminfo(); err == nil && memory.MemTotalBytes != nil {
		text += fmt.Sprintf(", %d GiB", (*memory.MemTotalBytes+1<<29)>>30)
	}
	return text
}

// write writes all three files, and the table to out as well.
func (r *report) write(dir string, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	all, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	table := r.markdown()
	_, err = io.WriteString(out, table)
	return errors.Join(err,
		os.WriteFile(filepath.Join(dir, "bench.json"), append(all, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "bench.md"), []byte(table), 0o644),
		r.plot(filepath.Join(dir, "bench.svg")),
	)
}

// cells returns what was measured with, in order.
func (r *report) cells() []cell {
	var all []cell
	for _, m := range r.Measurements {
		if c := (cell{m.Body, m.Connections}); !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// of returns a contestant's measurements in a cell, one for each round, in order.
func (r *report) of(name string, in cell) []Measurement {
	var all []Measurement
	for _, m := range r.Measurements {
		if m.Contestant == name && m.Body == in.Body && m.Connections == in.Connections {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Measurement) int { return a.Round - b.Round })
	return all
}

// spread is what repetitions came to.
type spread struct{ median, least, most float64 }

func spreadOf(all []Measurement, of func(Measurement) float64) spread {
	values := make([]float64, len(all))
	for i, m := range all {
		values[i] = of(m)
	}
	return newSpread(values)
}

// newSpread takes at least one value. The median of an even number of them is the mean of the two in the middle.
func newSpread(values []float64) spread {
	slices.Sort(values)
	n := len(values)
	return spread{median: (values[(n-1)/2] + values[n/2]) / 2, least: values[0], most: values[n-1]}
}
