package consume

import (
	"time"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// What sarama holds of each partition that this member has are at most two answers of fetchBytes, as they came and
// unpacked, or two Kafka batches where one is larger: with 100 partitions and batches up to 256 KiB about 50 MiB, and what
// they unpack to. It is beside the engine's buffer, which gets copies, so that a message never keeps its batch alive.
const (
	fetchBytes = 256 << 10
	// messagesAhead is how many messages wait between sarama and a claim. Each may be as large as brokers take, and keeps its
	// batch alive; more of them would not make it faster.
	messagesAhead = 1
	// fetchWait is how long a fetch waits for records; also how long a partition may wait to be fetched from again.
	fetchWait = 250 * time.Millisecond
)

// The group's times.
const (
	// sessionTimeout is how long the coordinator waits for a sign of life before others get a member's partitions.
	sessionTimeout = 10 * time.Second
	// heartbeats are the signs of life, by whose answers a member also learns that the group changes.
	heartbeats = time.Second
	// handover is what a rebalance may take beyond the last attempt under way: for commits, mostly.
	handover = 30 * time.Second
	// partitionsLooked is how often topics are asked for new partitions.
	partitionsLooked = 30 * time.Second
)

// settings are sarama's configurations.
type settings struct {
	client     *sarama.Config
	membership *sarama.Config
	letters    *sarama.Config
}

func newSettings(c Config) (settings, error) {
	base, err := c.Kafka.Sarama()
	if err != nil {
		return settings{}, err
	}
	base.Metadata.AllowAutoTopicCreation = false // looking at a topic must not make it, least of all one just deleted
	base.Metadata.RefreshFrequency = partitionsLooked
	base.ChannelBufferSize = messagesAhead
	base.Consumer.Fetch.Default = fetchBytes
	base.Consumer.MaxWaitTime = fetchWait
	base.Consumer.IsolationLevel = sarama.ReadCommitted // what was never committed is no request
	base.Consumer.Return.Errors = true
	base.Consumer.Offsets.Initial = sarama.OffsetOldest
	base.Consumer.Offsets.AutoCommit.Enable = false

	membership := *base
	group := &membership.Consumer.Group
	group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	group.Session.Timeout = sessionTimeout
	group.Heartbeat.Interval = heartbeats
	group.Rebalance.Timeout = c.RequestTimeout + handover
	// The answer to a JoinGroup comes when the last member has joined, and that is when what it had under way has ended.
	membership.Net.ReadTimeout = max(base.Net.ReadTimeout, group.Rebalance.Timeout+5*time.Second)

	letters := *base
	letters.Metadata.AllowAutoTopicCreation = true
	letters.Net.MaxOpenRequests = 1
	letters.Producer.Idempotent = true
	letters.Producer.RequiredAcks = sarama.WaitForAll
	letters.Producer.Compression = sarama.CompressionLZ4
	letters.Producer.Partitioner = sarama.NewMurmur2Partitioner
	letters.Producer.Return.Successes = true
	letters.Producer.Return.Errors = true
	letters.Producer.Retry.Max = 5
	// One letter to a Kafka batch: brokers take or reject whole batches. How large one may be is theirs to say.
	letters.Producer.Flush.MaxMessages = 1
	letters.Producer.MaxMessageBytes = record.MaxMessageBytes + 1<<20
	return settings{base, &membership, &letters}, nil
}

// backoff returns how long to wait after so many failures in a row (from 1).
func backoff(failures int) time.Duration {
	return flow.Backoff(failures, 250*time.Millisecond, 5*time.Second, 0)
}
