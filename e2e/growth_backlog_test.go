package e2e

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/xds/route"
)

var backlog = route.Size(1 << 30)

func init() {
	flag.TextVar(&backlog, "backlog", backlog, "the largest backlog that a collector starts with")
}

// growthOfBacklog fills a collector's spool while Kafka is down, kills it, and starts it again, with nothing of the spool in
// the system's memory and with Kafka back: until it is ready, until it has stored something new, and until all is in Kafka.
func growthOfBacklog(b *testing.B) {
	broker := kafka.Start(b, kafka.Config{})
	broker.CreateTopic(uplinkTopic, nil)
	t := newTable("Start with a backlog", "backlog MiB", "entries", "read alone s", "ready s", "first disk answer s", "MiB at most then",
		"drained s", "MiB at most", "records/s")
	for b.Loop() {
		for _, size := range []route.Size{0, backlog / 10, backlog} {
			recoverBacklog(b, broker, int64(size), t)
		}
	}
	t.print()
}

func recoverBacklog(b *testing.B, broker *kafka.Broker, size int64, t *table) {
	b.Helper()
	c := (&stack{t: b, kafka: broker}).newBacklogCollector()
	metric := func(name string) float64 { return total(b, get(b, "http://"+c.admin+"/metrics"), name, nil) }
	before, err := broker.Count(b.Context(), uplinkTopic)
	if err != nil {
		b.Fatal(err)
	}
	broker.Kill()
	c.start()
	sent := fill(b, c, size, metric)
	entries, bytes := metric("crowd_spool_entries"), metric("crowd_spool_bytes")
	c.kill()
	broker.Restart()
	read := readCold(b, c.spool)

	forget(b, c.spool)
	began := time.Now()
	since := func() float64 { return time.Since(began).Seconds() }
	c.start()
	ready, peak := since(), c.peak(b)
	newUplink(b, c.address, 1, record.LevelDisk).send(1, 0, 1)
	answered := since()
	for metric("crowd_delivered_total") < float64(sent+1) {
		if c.ended() || time.Since(began) > drainPatience {
			b.Fatalf("%v entries are left", metric("crowd_spool_entries"))
		}
		time.Sleep(100 * time.Millisecond)
	}
	drained := since()
	if after, err := broker.Count(b.Context(), uplinkTopic); err != nil || after-before < int64(sent+1) {
		b.Errorf("Kafka has %d records of %d: %v", after-before, sent+1, err)
	}
	t.add(int(bytes/mebibyte), int(entries), read.Seconds(), ready, answered, peak/mebibyte, drained, c.peak(b)/mebibyte, float64(sent)/(drained-ready))
	c.stop()
	if err := os.RemoveAll(c.spool); err != nil {
		b.Error(err)
	}
}

// drainPatience is for the largest backlog.
const drainPatience = 20 * time.Minute

// newBacklogCollector returns one whose spool has room for a topic with the largest backlog: two thirds of it.
func (s *stack) newBacklogCollector() *collector {
	s.addCollectors(1, "--spool-max-bytes", fmt.Sprint(2*int64(backlog)))
	return s.collectors[0]
}

// fill stores at least so many bytes in a collector's spool and returns how many records that are.
func fill(b *testing.B, c *collector, size int64, metric func(string) float64) (records int) {
	b.Helper()
	if size == 0 {
		return 0
	}
	u := newUplink(b, c.address, growthBatch, record.LevelDisk)
	for metric("crowd_spool_bytes") < float64(size) {
		const batches = 200
		if waits := u.send(batches, 0, growthUnderWay); len(waits) != batches {
			b.FailNow()
		}
		records += batches * growthBatch
	}
	return records
}

// peak is the most memory that the process has had (proc(5), VmHWM).
func (c *collector) peak(b *testing.B) int {
	b.Helper()
	p, err := procfs.NewProc(c.cmd.Process.Pid)
	if err != nil {
		b.Fatal(err)
	}
	status, err := p.NewStatus()
	if err != nil {
		b.Fatal(err)
	}
	return int(status.VmHWM)
}

// readCold returns how long it takes to read the files of a directory from the disk.
func readCold(b *testing.B, dir string) time.Duration {
	b.Helper()
	forget(b, dir)
	began := time.Now()
	eachFile(b, dir, func(f *os.File) error {
		_, err := io.Copy(io.Discard, f)
		return err
	})
	return time.Since(began)
}

// forget has the system forget what it has read of the files of a directory, as a machine does that was started again.
func forget(b *testing.B, dir string) {
	b.Helper()
	eachFile(b, dir, func(f *os.File) error {
		if err := f.Sync(); err != nil {
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

func eachFile(b *testing.B, dir string, do func(*os.File) error) {
	b.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range paths {
		err := func() error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			return do(f)
		}()
		if err != nil {
			b.Fatal(err)
		}
	}
}
