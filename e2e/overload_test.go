package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

var overload = flag.Duration("overload", 25*time.Second, "how long the overload lasts")

// TestOverload offers three times what Kafka takes: the spool fills, then requests are shed, and memory stays where it is.
func TestOverload(t *testing.T) {
	const (
		kafkaTakes  = 1 * mebibyte // bytes a second
		largest     = 300_000
		connections = 16 // of each level
		// A request is about 1,600 bytes in Kafka, after compression (see makeRequest), so Kafka takes 650 a second. Clients
		// that wait send fewer than they could.
		pace = 9 * time.Millisecond
	)
	s := newStackOn(t, ownKafka(t, nil), faultRoutes([]string{"overload"}), 2, "--spool-max-bytes", "8MiB", "--max-buffer-bytes", "8MiB")
	s.kafka.Quota(kafkaTakes)
	t.Logf("%d connections for each level, a request every %v on each", connections, pace)

	began := time.Now()
	loads := map[string]*traffic{}
	for _, l := range levels[:2] {
		loads[l] = startTraffic(t, s.base, "/overload/"+l, connections, pace, largest)
	}
	processes := map[string]int{"envoy": s.envoy.PID(), "collector-0": s.collectors[0].cmd.Process.Pid, "collector-1": s.collectors[1].cmd.Process.Pid}
	early, late := map[string]int{}, map[string]int{} // the highest of each half
	samples := time.NewTicker(500 * time.Millisecond)
	defer samples.Stop()
	for now := range samples.C {
		half := early
		if now.Sub(began) > *overload/2 {
			half = late
		}
		for name, pid := range processes {
			half[name] = max(half[name], usage(t, pid).Resident)
		}
		if now.Sub(began) > *overload {
			break
		}
	}
	answers := map[string][]answer{}
	for l, load := range loads {
		answers[l] = load.end()
	}
	s.kafka.Quota(0)
	s.settled()
	offered, taken := 0, 0
	for l, all := range answers {
		o := verify(t, s.kafka, "overload-"+l, "/overload/"+l, all, largest)
		ok, shed, failed := tally(all)
		p99 := percentile(all, 0.99)
		t.Logf("%s: %d answered, %d shed, %d failed in %v, p50 %v, p99 %v; %+v", l, ok, shed, failed, *overload,
			percentile(all, 0.5), p99, o)
		offered, taken = offered+len(all), taken+ok
		if failed > 0 {
			t.Errorf("%s: %d requests had neither 200 nor 503", l, failed)
		}
		if shed == 0 {
			t.Errorf("%s: nothing was shed: this was no overload", l)
		}
		if p99 > 6*time.Second { // ack_timeout is 5 s
			t.Errorf("%s: p99 is %v", l, p99)
		}
		if o.repeats > 0 {
			t.Errorf("%s: %d repeats", l, o.repeats)
		}
	}
	t.Logf("%d requests offered, %.1f times what was taken", offered, float64(offered)/float64(taken))
	for name := range processes {
		t.Logf("%s: at most %d MiB resident in the first half, %d MiB in the second", name, early[name]/mebibyte, late[name]/mebibyte)
		if late[name] > early[name]*5/4+16*mebibyte {
			t.Errorf("%s grew from %d to %d bytes", name, early[name], late[name])
		}
	}
}

// TestAFullDisk runs a collector on a small file system: the spool stops before it is full while Kafka is down, also
// when something else fills it, and goes on when there is room.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	disk, minFree := smallDisk(t, 48*mebibyte, 16*mebibyte)
	s := newStackOn(t, ownKafka(t, nil), faultRoutes([]string{"full"}), 1, "--spool", disk+"/spool", "--spool-max-bytes", "1GiB", "--spool-min-free",
		strconv.Itoa(minFree))
	memory := startTraffic(t, s.base, "/full/memory", 8, 10*time.Millisecond, 200_000)
	synced := startTraffic(t, s.base, "/full/disk", 8, 10*time.Millisecond, 200_000)
	memory.flows(t, 50)
	synced.flows(t, 50)
	s.kafka.Kill()
	s.eventually("requests are shed", func() bool {
		return s.stat("crowd.shed.window_closed")+s.stat("crowd.shed.topic_closed") > 100
	})
	hog := disk + "/hog"
	if err := os.WriteFile(hog, make([]byte, 8*mebibyte), 0o600); err != nil {
		t.Fatal(err)
	}
	s.kafka.Restart()
	s.eventually("some is in Kafka", func() bool {
		l := s.ledger()
		l.observe()
		return l.total("crowd_delivered_total") > 200
	})
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	memory.flows(t, 50)
	synced.flows(t, 50)
	loads := map[string][]answer{"memory": memory.end(), "disk": synced.end()}
	s.settled()
	for l, answers := range loads {
		ok, shed, failed := tally(answers)
		o := verify(t, s.kafka, "full-"+l, "/full/"+l, answers, 200_000)
		t.Logf("%s: %d answered, %d shed, %d failed; %+v", l, ok, shed, failed, o)
		if failed > 0 || o.unmarked > 0 {
			t.Errorf("%s: %d requests failed, %d repeats are not marked", l, failed, o.unmarked)
		}
	}
}

// TestAFullDiskIsNotInTheWayOfKafkaRoutes fills a collector's disk while Kafka is up.
func TestAFullDiskIsNotInTheWayOfKafkaRoutes(t *testing.T) {
	t.Parallel()
	const largest = 2000
	disk, minFree := smallDisk(t, 48*mebibyte, 16*mebibyte)
	s := newStack(t, faultRoutes([]string{"passing"}), 1, "--spool", disk+"/spool", "--spool-max-bytes", "1GiB", "--spool-min-free",
		strconv.Itoa(minFree))
	loads := map[string]*traffic{}
	flow := func(levels ...string) {
		for _, l := range levels {
			loads[l].flows(t, 50)
		}
	}
	for _, l := range levels {
		loads[l] = startTraffic(t, s.base, "/passing/"+l, 4, 10*time.Millisecond, largest)
	}
	flow(levels...)
	const tooMuch = 4 * mebibyte // more than the spool can give back
	var stat syscall.Statfs_t
	if err := syscall.Statfs(disk, &stat); err != nil {
		t.Fatal(err)
	}
	hog := disk + "/hog"
	if err := os.WriteFile(hog, make([]byte, int(stat.Bavail)*int(stat.Bsize)-minFree+tooMuch), 0o600); err != nil {
		t.Fatal(err)
	}
	s.eventually("the spool is full", func() bool { return s.stat("crowd.window_bytes") == 0 })
	memory, synced := loads["memory"].count(), loads["disk"].count()
	flow("kafka", "kafka")
	if n, m := loads["memory"].count()-memory, loads["disk"].count()-synced; n+m > 0 {
		t.Errorf("%d memory and %d disk requests were answered though the spool is full", n, m)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	flow(levels...)
	answers := map[string][]answer{}
	for l, load := range loads {
		answers[l] = load.end()
	}
	s.settled()
	for l, all := range answers {
		ok, shed, failed := tally(all)
		o := verify(t, s.kafka, "passing-"+l, "/passing/"+l, all, largest)
		t.Logf("%s: %d answered, %d shed, %d failed; %+v", l, ok, shed, failed, o)
		if failed > 0 || o.unmarked > 0 || l == "kafka" && shed > 0 {
			t.Errorf("%s: %d requests shed, %d failed, %d repeats are not marked", l, shed, failed, o.unmarked)
		}
	}
}

// smallDisk returns a directory on a file system of its own, of so many bytes. Where none may be mounted it is on one that
// is larger, and what must stay free is raised by as much.
func smallDisk(t testing.TB, size, minFree int) (dir string, _ int) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("crowd-e2e", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err == nil {
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		return dir, minFree
	} else if !errors.Is(err, syscall.EPERM) {
		t.Fatalf("mounting a small file system: %v", err)
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	t.Log("a file system may not be mounted here: the disk's own is used")
	return dir, int(stat.Bavail)*int(stat.Bsize) - size + minFree
}

// TestLostRecordsShow loses records of level memory, which takes an Envoy and a diskless collector killed while Kafka is
// down, and finds in the ledger how many.
func TestLostRecordsShow(t *testing.T) {
	t.Parallel()
	const requests = 500
	s := newStackOn(t, ownKafka(t, nil), faultRoutes([]string{"lost"}), 1, "--spool", "off")
	route := `route="lost-memory"`
	l := s.ledger()
	counted := func(name string) int {
		l.observe()
		return int(l.total(name, route))
	}
	allAnswered(t, sendLoad(t, s.gateway, "/lost/memory", 10, 2, 1000, func(int) {}))
	s.eventually("it is stored", func() bool { return counted("crowd_stored_total") == 10 })
	s.kafka.Kill()
	answers := sendLoad(t, s.gateway, "/lost/memory", requests, 8, 1000, func(int) {})
	allAnswered(t, answers)
	s.eventually("all answers are known", func() bool { return counted("crowd_answered_total") == 10+requests })
	if err := s.envoy.Kill(); err != nil {
		t.Fatal(err)
	}
	s.collectors[0].kill()
	s.kafka.Restart()
	s.collectors[0].start()
	s.startEnvoy()
	after := sendLoad(t, s.gateway, "/lost/memory", 10, 2, 1000, func(int) {})
	allAnswered(t, after)
	s.eventually("it is stored", func() bool { return counted("crowd_stored_total") >= 20 })
	records, err := s.kafka.ReadAll(t.Context(), "lost-memory")
	if err != nil {
		t.Fatal(err)
	}
	lost := requests + 20 - len(records)
	if got := counted("crowd_answered_total") - counted("crowd_stored_total"); got != lost || lost == 0 {
		t.Errorf("%d records are lost, the ledger says %d", lost, got)
	}
	t.Logf("%d of %d answered records are lost, and the ledger says so", lost, requests+20)
}
