package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/marceloboeira/crowd/e2e/load"
)

const path = "/bench"

const (
	// kafkaWarmUp is how long Kafka, which all contestants share, is loaded before the first is measured: its JVM compiles what is
	// used often, and took three times the CPU for a record in the first round as in the fifth.
	kafkaWarmUp = 30 * time.Second
	// warmUp is how long a system is loaded before it is measured: V8 and Go's collector of garbage find their pace.
	warmUp = 2 * time.Second
	// settleInterval is how often records are counted until all have arrived, and standstill how long none may come until
	// those that are missing count as missing.
	settleInterval = 50 * time.Millisecond
	standstill     = 10 * time.Second
)

// The processes that are told apart, as in Measurement.
const (
	envoyProcess = "Envoy"
	kafkaProcess = "Kafka"
	backProcess  = "collector" // or the peer in its place
	loadProcess  = "load"      // this one
)

// cell is what all contestants are measured with.
type cell struct {
	Body        int // bytes
	Connections int
}

// Measurement is one contestant's one repetition.
type Measurement struct {
	Contestant  string  `json:"contestant"`
	Body        int     `json:"body"` // bytes
	Connections int     `json:"connections"`
	Round       int     `json:"round"`
	Rate        float64 `json:"rate"`   // 200s per second
	P50         float64 `json:"p50_ms"` // of all answers
	P99         float64 `json:"p99_ms"`
	// The whole life of the system, its warm-up included: 200s, other answers, requests without any, and records that
	// arrived in Kafka or at the counter; -1: no record leaves the contestant.
	Answered   int `json:"answered"`
	Refused    int `json:"refused"`
	Unanswered int `json:"unanswered"`
	Arrived    int `json:"arrived"`
	// Behind is how many of the records had not arrived when the load ended, and Settle how long they took then.
	Behind int     `json:"behind"`
	Settle float64 `json:"settle_s"`
	// CPU by process, in µs per 200, until all records had arrived; and memory at the end of the load, in bytes.
	CPU      map[string]float64 `json:"cpu_us"`
	Resident map[string]int     `json:"resident_bytes"`
}

// server is the CPU of what is under test: all but Kafka and the load.
func (m Measurement) server() float64 {
	sum := 0.0
	for name, used := range m.CPU {
		if name != kafkaProcess && name != loadProcess {
			sum += used
		}
	}
	return sum
}

// warmKafka has Kafka take what it takes from whoever waits for its acknowledgement, which is many small requests.
func (g *ground) warmKafka(ctx context.Context) error {
	c := contestants[slices.Index(names(contestants), goSync)]
	_, err := g.measure(ctx, c, cell{Body: 512, Connections: 64}, kafkaWarmUp)
	return err
}

// measure starts a contestant, measures it and ends it.
func (g *ground) measure(ctx context.Context, c contestant, in cell, duration time.Duration) (m Measurement, err error) {
	s, err := g.start(ctx, c, in)
	defer func() { err = errors.Join(err, s.stop()) }()
	if err != nil {
		return m, err
	}
	request := load.Config{
		Address: s.address, Request: load.Post("bench.example", path, body(in.Body)), Connections: in.Connections, Duration: warmUp,
	}
	s.processes[loadProcess] = os.Getpid()
	m = Measurement{
		Contestant: c.name, Body: in.Body, Connections: in.Connections, CPU: map[string]float64{}, Resident: map[string]int{},
	}
	if _, err = s.load(ctx, request, &m); err != nil {
		return m, err
	}
	if err = s.settle(ctx, &m); err != nil {
		return m, err
	}
	before, err := s.usage()
	if err != nil {
		return m, err
	}
	request.Duration = duration
	result, err := s.load(ctx, request, &m)
	if err != nil {
		return m, err
	}
	ended := time.Now()
	resident, err := s.usage()
	if err != nil {
		return m, err
	}
	if s.arrived != nil {
		n, err := s.arrived(ctx)
		if err != nil {
			return m, err
		}
		m.Behind = max(0, m.Answered-n)
	}
	if err = s.settle(ctx, &m); err != nil {
		return m, err
	}
	m.Settle = time.Since(ended).Seconds()
	after, err := s.usage()
	if err != nil {
		return m, err
	}
	ok := result.Statuses[http.StatusOK]
	m.Rate = float64(ok) / result.Elapsed.Seconds()
	m.P50, m.P99 = milliseconds(result.Quantile(50)), milliseconds(result.Quantile(99))
	for name := range s.processes {
		m.CPU[name] = float64((after[name].CPU - before[name].CPU).Microseconds()) / float64(max(1, ok))
		m.Resident[name] = resident[name].Resident
	}
	return m, c.kept(m)
}

// kept returns an error where an answer has promised a record that did not arrive.
func (c contestant) kept(m Measurement) error {
	if c.promises && m.Arrived < m.Answered {
		return fmt.Errorf("%d requests were answered, and only %d records arrived", m.Answered, m.Arrived)
	}
	return nil
}

// body returns text that does not compress well by itself. It is always the same, so that it does among others.
func body(n int) []byte {
	text := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(text) // never fails
	for i := range text {
		text[i] = '!' + text[i]%64
	}
	return text
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// load sends requests and counts the answers.
func (s *system) load(ctx context.Context, c load.Config, m *Measurement) (load.Result, error) {
	r, err := load.Run(ctx, c)
	m.Answered += r.Statuses[http.StatusOK]
	m.Refused += r.Answers() - r.Statuses[http.StatusOK]
	m.Unanswered += r.Unanswered
	return r, err
}

// settle waits until every record has arrived, or no more come.
func (s *system) settle(ctx context.Context, m *Measurement) error {
	m.Arrived = -1
	if s.arrived == nil {
		return nil
	}
	for last := time.Now(); time.Since(last) < standstill; time.Sleep(settleInterval) {
		n, err := s.arrived(ctx)
		if err != nil {
			return err
		}
		if n > m.Arrived {
			m.Arrived, last = n, time.Now()
		}
		if n >= m.Answered {
			return nil
		}
	}
	return nil
}

func (s *system) usage() (map[string]load.Usage, error) {
	all := map[string]load.Usage{}
	for name, pid := range s.processes {
		u, err := load.UsageOf(pid)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = u
	}
	return all, nil
}
