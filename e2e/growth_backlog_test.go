package e2e

import (
	"cmp"
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

// backlogFlags are those of the collectors of growthOfBacklog: a topic may hold two thirds of a spool.
func backlogFlags() []string {
	return []string{"--spool-max-bytes", fmt.Sprint(2 * cmp.Or(backlog, 1<<30)), "--drain-timeout", "1s"}
}

// growthOfBacklog kills a collector that has something in its spool, while Kafka is down, and starts it again: until it is
// ready, until it has stored something new, and, with Kafka back, until all is in Kafka.
func growthOfBacklog(b *testing.B) {
	t := newTable("Start with a backlog", "backlog MiB", "entries", "read alone s", "ready s", "first disk answer s", "MiB at most then",
		"drained s", "MiB at most", "records/s")
	for b.Loop() {
		for _, size := range []route.Size{0, backlog / 10, backlog} {
			recoverBacklog(b, int64(size), t)
		}
	}
	t.print()
}

func recoverBacklog(b *testing.B, size int64, t *table) {
	b.Helper()
	broker := kafka.Start(b, kafka.Config{})
	s := &stack{t: b, kafka: broker}
	s.addCollectors(1, backlogFlags()...)
	c := s.collectors[0]
	c.start()
	metric := func(name string) float64 { return total(b, get(b, "http://"+c.admin+"/metrics"), name, nil) }
	broker.CreateTopic(uplinkTopic, nil)
	broker.Kill()
	sent := fill(b, c, size, metric)
	entries, bytes := metric("crowd_spool_entries"), metric("crowd_spool_bytes")
	c.kill()
	read := readCold(b, c.spool)

	forget(b, c.spool)
	began := time.Now()
	since := func() float64 { return time.Since(began).Seconds() }
	c.start()
	ready := since()
	newUplink(b, c.address, 1, record.LevelDisk).send(1, 0, 1)
	answered, peak := since(), c.peak(b)
	broker.Restart()
	began = time.Now()
	for metric("crowd_spool_entries") > 0 {
		if time.Since(began) > 20*time.Minute {
			b.Fatalf("%v entries are left", metric("crowd_spool_entries"))
		}
		time.Sleep(100 * time.Millisecond)
	}
	drained, delivered := since(), metric("crowd_delivered_total")
	if want := float64(sent + 1); delivered != want {
		b.Errorf("%v records were delivered, want %v", delivered, want)
	}
	if n, err := broker.Count(b.Context(), uplinkTopic); err != nil || n < int64(sent+1) {
		b.Errorf("Kafka has %d records of %d: %v", n, sent+1, err)
	}
	t.add(int(bytes/mebibyte), int(entries), read.Seconds(), ready, answered, peak/mebibyte, drained, c.peak(b)/mebibyte, delivered/drained)
	c.stop()
	if err := os.RemoveAll(c.spool); err != nil {
		b.Error(err)
	}
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
		if waits := u.send(batches, 0, 16); len(waits) != batches {
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
