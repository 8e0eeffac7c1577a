package quickstart

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"
)

const (
	kafkaPort  = 9092 // where people look for a Kafka
	partitions = 4    // of each topic
)

// embeddedKafka starts a Kafka in this process, on a port of 127.0.0.1: the one given unless that is taken.
func embeddedKafka(port int, topics []string) (*kfake.Cluster, error) {
	start := func(port int) (*kfake.Cluster, error) {
		return kfake.NewCluster(kfake.Ports(port), kfake.AllowAutoTopicCreation(),
			kfake.DefaultNumPartitions(partitions), kfake.SeedTopics(partitions, topics...))
	}
	cluster, err := start(port)
	if err != nil {
		cluster, err = start(0)
	}
	if err != nil {
		return nil, fmt.Errorf("starting the embedded Kafka: %w", err)
	}
	return cluster, nil
}
