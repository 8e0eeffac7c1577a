package main

import (
	"context"

	"github.com/marceloboeira/crowd/e2e/bench/peer"
)

// contestant is one way to take requests.
type contestant struct {
	name   string // short, for flags and JSON
	title  string // for people
	answer string // what has happened to the body when the answer is sent
	// promises: every answer must have become a record.
	promises bool
	crowd    bool // it is crowd
	start    func(context.Context, *system) error
}

// The names that others refer to.
const (
	answering = "envoy"
	memory    = "memory"
	disk      = "disk"
	kafkaAck  = "kafka"
	goAsync   = "go-async"
	goSync    = "go-sync"
)

var contestants = []contestant{
	{name: answering, title: "Envoy itself: `buffer` and `direct_response`", answer: "body", start: startAnswering},
	{name: "sink", crowd: true, title: "crowd's filter, a counter for a collector", answer: "memory", promises: true, start: startSink},
	{name: memory, crowd: true, title: "crowd, `memory`", answer: "memory", promises: true, start: startCrowd("memory", true)},
	{name: "memory-diskless", crowd: true, title: "crowd, `memory`, no spool", answer: "memory", promises: true, start: startCrowd("memory", false)},
	{name: disk, crowd: true, title: "crowd, `disk`", answer: "fsync", promises: true, start: startCrowd("disk", true)},
	{name: kafkaAck, crowd: true, title: "crowd, `kafka`", answer: "Kafka's ack", promises: true, start: startCrowd("kafka", true)},
	{name: "ext-proc", title: "Envoy `ext_proc`, observing, and `buffer`; a counter", answer: "body", start: startProcessor},
	{name: goAsync, title: "Go net/http and sarama, not waiting", answer: "nothing", start: startServer(peer.Async)},
	{name: goSync, title: "Go net/http and sarama, waiting", answer: "Kafka's ack", promises: true, start: startServer(peer.Sync)},
}
