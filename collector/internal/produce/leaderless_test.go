package produce

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
	"github.com/marceloboeira/crowd/collector/record"
)

// headless has brokers say that partition 1 of the topic leads, which has two, has no leader, for as long as dead is set.
func headless(t *testing.T, cluster *kfake.Cluster, dead *atomic.Bool) {
	t.Helper()
	b := kmsg.NewMetadataResponseBroker()
	b.Host = "127.0.0.1"
	if _, err := fmt.Sscanf(cluster.ListenAddrs()[0], "127.0.0.1:%d", &b.Port); err != nil {
		t.Fatal(err)
	}
	cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !dead.Load() {
			return nil, nil, false
		}
		response := req.ResponseKind().(*kmsg.MetadataResponse)
		response.Brokers = append(response.Brokers, b)
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = kmsg.StringPtr("leads")
		for i := range int32(2) {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.Replicas, p.ISR = i, 0, []int32{0}, []int32{0}
			if i == 1 {
				p.Leader, p.ErrorCode, p.ISR = -1, 5, nil // LEADER_NOT_AVAILABLE
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
}

// TestAPartitionWithoutALeaderHoldsUpNoOther has many records wait for it, and others of its topic come one by one; then it gets
// a leader.
func TestAPartitionWithoutALeaderHoldsUpNoOther(t *testing.T) {
	const waiting, most = 2000, 5 * time.Second
	cluster := kafkatest.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "leads"))
	var keys [2][]byte
	for i := 0; keys[0] == nil || keys[1] == nil; i++ {
		key := fmt.Appendf(nil, "key %d", i)
		keys[partitionOf(key, 2)] = key
	}
	keyed := func(partition int, body string) record.Record {
		r := post("leads", []byte(body))
		r.Key = keys[partition]
		return r
	}
	p := start(t, Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}})
	<-p.Connected()
	awaitStored(t, send(p, keyed(0, "first")))
	var dead atomic.Bool
	dead.Store(true)
	headless(t, cluster, &dead)
	for _, s := range []*sender{p.bulk, p.prompt, p.solo} {
		_ = s.client.RefreshMetadata("leads")
	}
	var headless []record.Record
	for i := range waiting {
		headless = append(headless, keyed(1, fmt.Sprint("headless ", i)))
	}
	later := send(p, headless...)
	for i := range 10 {
		began := time.Now()
		awaitStored(t, send(p, keyed(0, fmt.Sprint("live ", i))))
		took := time.Since(began)
		t.Logf("a live one is stored after %v", took)
		if took > most {
			t.Errorf("more than %v", most)
		}
	}
	notDone(t, later)
	dead.Store(false)
	awaitStored(t, later)
	if n := len(kafkatest.Read(t, cluster, "leads")); n != 1+waiting+10 {
		t.Errorf("%d records are stored, want %d", n, 1+waiting+10)
	}
}
