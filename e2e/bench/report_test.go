package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample has two rounds of three contestants: crowd takes twice what Go does in the first, and four times in the second.
func sample() *report {
	r := &report{Date: "2026-11-28", Machine: "2 cores", Duration: "4s", Rounds: 2, Versions: map[string]string{"Envoy": "1", "Kafka": "4"}}
	for round, rate := range []float64{20_000, 40_000} {
		add := func(name string, m Measurement) {
			m.Contestant, m.Round, m.Body, m.Connections, m.Answered = name, round, 512, 64, 100
			r.Measurements = append(r.Measurements, m)
		}
		add(answering, Measurement{Rate: 60_000, P50: 1, P99: 2, Arrived: -1, CPU: map[string]float64{"Envoy": 10, "load": 5}})
		add(kafkaAck, Measurement{Rate: rate, P50: 1, P99: float64(round + 3), Arrived: 100, Refused: round,
			CPU: map[string]float64{"Envoy": 20, "xds": 1, "collector": 9, "Kafka": 3, "load": 5}, Resident: map[string]int{"Envoy": 64 << 20}})
		add(goSync, Measurement{Rate: 10_000, P50: 2, P99: 4, Arrived: 100, CPU: map[string]float64{"collector": 30, "Kafka": 3, "load": 5}})
	}
	return r
}

func TestMarkdown(t *testing.T) {
	want := `**512 bytes, 64 connections**

| | answers after | requests/s | p50 ms | p99 ms | CPU µs: Envoy | collector, server | Kafka | load | MiB: Envoy | collector, server | answered | arrived | late |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| Envoy itself: ` + "`buffer` and `direct_response`" + ` | body | 60000 (60000–60000) | 1.00 | 2.00 (2.00–2.00) | 10.0 |  |  | 5.0 | 0 |  | 200 | |  |
| crowd, ` + "`kafka`" + ` | Kafka's ack | 30000 (20000–40000) | 1.00 | 3.50 (3.00–4.00) | 20.0 | 9.0 | 3.0 | 5.0 | 64 | 0 | 200, 1 refused | 200 | 0 |
| Go net/http and sarama, waiting | Kafka's ack | 10000 (10000–10000) | 2.00 | 4.00 (4.00–4.00) |  | 30.0 | 3.0 | 5.0 |  | 0 | 200 | 200 | 0 |

| target | | measured | reached |
| --- | --- | --- | --- |
| ` + "`kafka`" + `: requests/s ÷ Go's, waiting | ≥ 1.5 | 3.00 (2.00–4.00) | yes |
| ` + "`kafka`" + `: requests/s | ≥ 38000 | 30000 (20000–40000) | no |
| ` + "`kafka`" + `: p99, ms | ≤ 5 | 3.50 (3.00–4.00) | yes |
| ` + "`kafka`" + `: CPU of Envoy and collector, µs | ≤ 34 | 30.0 (30.0–30.0) | yes |

Medians (least–most) of 2 interleaved rounds of 4s each; 2026-11-28, 2 cores; Envoy 1, Kafka 4. Envoy has one worker; the load has the same cores.
`
	if diff := cmp.Diff(want, sample().markdown()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	var out strings.Builder
	r := sample()
	if err := r.write(dir, &out); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, name := range []string{"bench.md", "bench.json", "bench.svg"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	if files["bench.md"] != out.String() {
		t.Errorf("bench.md is %q", files["bench.md"])
	}
	var read report
	if err := json.Unmarshal([]byte(files["bench.json"]), &read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, &read); diff != "" {
		t.Errorf("bench.json (-written +read):\n%s", diff)
	}
	for _, name := range []string{answering, kafkaAck, goSync} {
		if !strings.Contains(files["bench.svg"], ">"+name+"<") {
			t.Errorf("bench.svg does not name %s", name)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{5, 1}, spread{3, 1, 5}},
		{[]float64{9, 1, 2}, spread{2, 1, 9}},
		{[]float64{4, 3, 2, 1}, spread{2.5, 1, 4}},
	} {
		if got := newSpread(c.values); got != c.want {
			t.Errorf("%v: %v; want %v", c.values, got, c.want)
		}
	}
}

func TestTargetsNameContestants(t *testing.T) {
	all := append(names(contestants), "")
	for _, target := range targets {
		for _, name := range []string{target.of, target.to} {
			if !strings.Contains(" "+strings.Join(all, " ")+" ", " "+name+" ") {
				t.Errorf("%s: there is no contestant %q", target.what, name)
			}
		}
	}
}
