package produce

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/IBM/sarama"
)

// stickyBytes is how much of a topic's records without a key goes to one partition before the next one gets its
// turn: enough to make a good batch of them, little enough to spread them evenly.
const stickyBytes = 64 << 10

// partitioner chooses the partitions of one topic's records: by the key as the Java client does, without a key
// in runs of stickyBytes over all partitions that have a leader. sarama calls it from one goroutine.
type partitioner struct {
	run  int // of bytes, on the present partition
	next uint32
}

func newPartitioner(string) sarama.Partitioner {
	return &partitioner{next: rand.Uint32()}
}

// Partition implements sarama.Partitioner.
func (p *partitioner) Partition(m *sarama.ProducerMessage, partitions int32) (int32, error) {
	if m.Key != nil {
		key, err := m.Key.Encode()
		if err != nil {
			return 0, err
		}
		return partitionOf(key, partitions), nil
	}
	if p.run >= stickyBytes {
		p.run = 0
		p.next++
	}
	p.run += m.ByteSize(recordFormat)
	return int32(p.next % uint32(partitions)), nil
}

// RequiresConsistency implements sarama.Partitioner; MessageRequiresConsistency overrides it.
func (p *partitioner) RequiresConsistency() bool { return true }

// MessageRequiresConsistency implements sarama.DynamicConsistencyPartitioner: a key always means the same
// partition, even where that has no leader just now.
func (p *partitioner) MessageRequiresConsistency(m *sarama.ProducerMessage) bool { return m.Key != nil }

// partitionOf is the Java client's choice: BuiltInPartitioner.partitionForKey.
func partitionOf(key []byte, partitions int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % partitions
}

// murmur2 is org.apache.kafka.common.utils.Utils.murmur2: MurmurHash2 with Kafka's seed.
func murmur2(data []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * m
		k ^= k >> r
		h = h*m ^ k*m
	}
	if len(data) > 0 {
		for i := len(data) - 1; i >= 0; i-- {
			h ^= uint32(data[i]) << (8 * i)
		}
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
