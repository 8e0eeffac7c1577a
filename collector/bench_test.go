package collector

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
	"github.com/marceloboeira/crowd/collector/record"
)

// BenchmarkCollect measures a record's way from an uplink's stream to Kafka's acknowledgement: 512-byte JSON
// bodies in batches of 100, 64 of them under way, without a spool by compression, and by way of a spool, where it ends
// when that is empty again. Uplink and Kafka are in the same process (the uplink sends the same records again and
// again, Kafka throws them away), so their share is in the numbers too: cpu-ns/record is an upper bound of the
// collector's.
func BenchmarkCollect(b *testing.B) {
	for _, compression := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		b.Run(compression, func(b *testing.B) { benchmarkCollect(b, Config{Compression: compression}) })
	}
	b.Run("spool", func(b *testing.B) {
		benchmarkCollect(b, Config{Compression: "lz4", Spool: b.TempDir(), SpoolMinFree: 1})
	})
}

func benchmarkCollect(b *testing.B, c Config) {
	const perBatch, underWay = 100, 64
	cluster := kafkatest.Start(b, kfake.SeedTopics(8, "leads"), kfake.BlackholeProduce())
	c.Kafka.Brokers = cluster.ListenAddrs()
	r := run(b, c)
	s := r.connect(b)
	var batch record.Batch
	for i := range perBatch {
		now := time.Now()
		body := fmt.Appendf(nil, `{"id":%d,"email":"user-%d@shop.example","campaign":"autumn-%x"}`, i, i*7919, i*104729)
		for len(body) < 512 {
			body = fmt.Appendf(body[:len(body)-1], `,"field-%d":"value %x"}`, len(body), uint32(len(body)*i)*2654435761)
		}
		rec := record.Record{
			ID: record.NewID(now), Received: now, Route: "leads", Ack: record.LevelMemory, Topic: "leads", Method: "POST",
			Scheme: "https", Authority: "shop.example", Path: "/leads?source=bench", Source: "192.0.2.1:54321",
			Headers: []record.Header{
				{Name: "content-type", Value: "application/json"}, {Name: "content-length", Value: "512"},
				{Name: "user-agent", Value: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"},
				{Name: "accept", Value: "*/*"}, {Name: "x-request-id", Value: record.NewID(now).String()},
				{Name: "x-forwarded-for", Value: "192.0.2.1"}, {Name: "x-forwarded-proto", Value: "https"},
			},
		}
		rec.Body = body[:512]
		batch.Add(rec.Parts())
	}
	b.SetBytes(perBatch * 512)
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := cpuTime(b)
	b.ResetTimer()
	slots := make(chan struct{}, underWay)
	go func() {
		for i := range uint64(b.N) {
			slots <- struct{}{}
			message := batch.Message(record.Head{Sequence: i + 1, SettledBelow: uint64(max(1, int64(i)-2*underWay))})
			if err := s.SendMsg(slices.Clone(message)); err != nil { // gRPC may still hold the one before
				b.Error(err)
				return
			}
		}
	}()
	for range b.N {
		if a := receiveAck(b, s); len(a.GetRefused()) > 0 {
			b.Fatal(a)
		}
		<-slots
	}
	if c.Spool != "" {
		r.stop(b) // has delivered everything when it ends
	}
	b.StopTimer()
	runtime.ReadMemStats(&after)
	records := float64(b.N) * perBatch
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/records, "ns/record")
	b.ReportMetric(float64(cpuTime(b)-cpu)/records, "cpu-ns/record")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/records, "allocs/record")
}

// cpuTime returns what the process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rawCodec sends bytes as they are.
type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if raw, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func raw() grpc.CallOption { return grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2("proto")}) }
