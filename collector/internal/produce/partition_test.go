package produce

import (
	"testing"

	"github.com/IBM/sarama"
)

// The expected numbers were computed by Kafka's own class, org.apache.kafka.common.utils.Utils of Kafka 4.3.
func TestPartitionOfAKeyIsTheJavaClients(t *testing.T) {
	for _, c := range []struct {
		key       string
		hash      int32
		of12, of7 int32
	}{
		{key: "", hash: 275646681, of12: 9, of7: 2},
		{key: "a", hash: -1563381124, of12: 4, of7: 5},
		{key: "ab", hash: 316155434, of12: 2, of7: 0},
		{key: "abc", hash: 479470107, of12: 3, of7: 4},
		{key: "abcd", hash: -1323649548, of12: 8, of7: 5},
		{key: "abcde", hash: 461995741, of12: 1, of7: 4},
		{key: "lead-4711", hash: -920923533, of12: 11, of7: 4},
		{key: "tenant:éè", hash: -580808946, of12: 2, of7: 5},
		{key: "00000000-0000-7000-8000-000000000000", hash: 880388358, of12: 6, of7: 3},
		{key: "The quick brown fox jumps over the lazy dog", hash: 495243318, of12: 6, of7: 3},
		{key: "\x00\xff\x80\x01\xfe", hash: 1434120770, of12: 2, of7: 5},
		{key: "\xff\xff\xff", hash: 1548199422, of12: 6, of7: 0},
	} {
		if got := int32(murmur2([]byte(c.key))); got != c.hash {
			t.Errorf("murmur2(%q) = %d, Java says %d", c.key, got, c.hash)
		}
		if got := partitionOf([]byte(c.key), 12); got != c.of12 {
			t.Errorf("partition of %q out of 12 = %d, Java says %d", c.key, got, c.of12)
		}
		if got := partitionOf([]byte(c.key), 7); got != c.of7 {
			t.Errorf("partition of %q out of 7 = %d, Java says %d", c.key, got, c.of7)
		}
	}
}

func TestRecordsWithoutAKeyGoInRunsToAllPartitions(t *testing.T) {
	const partitions, size = 5, 1000
	p := newPartitioner("leads")
	value := make(encoder, size)
	var counts [partitions]int
	changes := 0
	previous := int32(-1)
	const records = 10_000
	for range records {
		got, err := p.Partition(&sarama.ProducerMessage{Value: &value}, partitions)
		if err != nil {
			t.Fatal(err)
		}
		counts[got]++
		if got != previous {
			changes++
		}
		previous = got
	}
	perRun := stickyBytes/size + 1
	if most := records/perRun*11/10 + 1; changes > most {
		t.Errorf("%d changes of partition in %d records of %d bytes, want at most %d", changes, records, size, most)
	}
	for partition, n := range counts {
		if n < records/partitions-2*perRun || n > records/partitions+2*perRun {
			t.Errorf("partition %d has %d of %d records", partition, n, records)
		}
	}
}

func TestPartitionerFollowsAFallingNumberOfPartitions(t *testing.T) {
	p := newPartitioner("leads")
	value := make(encoder, stickyBytes)
	for i := range 100 {
		partitions := int32(1 + i%9)
		got, err := p.Partition(&sarama.ProducerMessage{Value: &value}, partitions)
		if err != nil || got < 0 || got >= partitions {
			t.Fatalf("partition %d of %d, %v", got, partitions, err)
		}
	}
}
