package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// clusterID may be any UUID in Kafka's base64 form.
const clusterID = "Y3Jvd2QtZTJlLXRlc3RzLg"

func (b *Broker) configFile() string { return filepath.Join(b.dir, "server.properties") }
func (b *Broker) dataDir() string    { return filepath.Join(b.dir, "data") }
func (b *Broker) logFile() string    { return filepath.Join(b.dir, "kafka.log") }

// create lays out an empty node on two free ports and runs it. The ports are part of what it formats, so
// another try after errPortTaken starts from nothing.
func (b *Broker) create(ctx context.Context, properties map[string]string) error {
	port, controller, err := freePorts()
	if err != nil {
		return err
	}
	b.addr = fmt.Sprintf("127.0.0.1:%d", port)
	if err := os.RemoveAll(b.dataDir()); err != nil {
		return fmt.Errorf("clearing the data of an earlier try: %w", err)
	}
	all := map[string]string{
		"auto.create.topics.enable":        "true",
		"group.initial.rebalance.delay.ms": "0",
		"num.partitions":                   "4",
		// One node: internal topics cannot have the three replicas that they ask for.
		"offsets.topic.num.partitions":                     "1",
		"offsets.topic.replication.factor":                 "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "1",
		"transaction.state.log.replication.factor":         "1",
		// How long a restart after a kill waits (see Restart); the default is 9 s.
		"broker.heartbeat.interval.ms": "500",
		"broker.session.timeout.ms":    "3000",
	}
	maps.Copy(all, properties)
	maps.Copy(all, map[string]string{
		"process.roles":                       "broker,controller",
		"node.id":                             "1",
		"listeners":                           fmt.Sprintf("PLAINTEXT://%s,CONTROLLER://127.0.0.1:%d", b.addr, controller),
		"advertised.listeners":                "PLAINTEXT://" + b.addr,
		"controller.listener.names":           "CONTROLLER",
		"controller.quorum.bootstrap.servers": fmt.Sprintf("127.0.0.1:%d", controller),
		"log.dirs":                            b.dataDir(),
	})
	var file strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&file, "%s=%s\n", key, all[key])
	}
	if err := os.WriteFile(b.configFile(), []byte(file.String()), 0o644); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	format := b.command(ctx, "kafka.tools.StorageTool", "format", "--standalone", "-t", clusterID, "-c", b.configFile())
	if out, err := format.CombinedOutput(); err != nil {
		return fmt.Errorf("formatting the data directory: %w\n%s", err, out)
	}
	return b.run()
}

// freePorts finds two ports of 127.0.0.1 that nothing listens on. Kafka cannot choose them itself: with port 0 it
// would advertise 0. They lie below the range that Linux takes client ports from, because a client that dials
// a stopped broker's port out of that very range may be given it as its own, and then connect to itself
// and keep the broker from coming back.
func freePorts() (broker, controller int, err error) {
	const first, last = 20000, 32000
	var found []int
	for range 100 {
		port := first + rand.IntN(last-first)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		// Held until both are found, so that they differ.
		defer l.Close()
		if found = append(found, port); len(found) == 2 {
			return found[0], found[1], nil
		}
	}
	return 0, 0, errors.New("finding two free ports: 100 tries failed")
}
