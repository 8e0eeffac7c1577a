package uplink

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/record"
)

// world is a simulated network with collectors behind it: messages take their time in order, streams break
// with what is under way in both directions, collectors stall, store late, close their windows and drain.
type world struct {
	rnd     *rand.Rand
	uplink  *Uplink
	now     time.Duration
	next    Stream
	links   map[Stream]*link
	stored  map[record.ID]int // how often
	marked  map[record.ID]bool
	content map[uint64]string // what a sequence number stands for
	total   uint64            // the highest answered total seen
	calm    bool              // no more faults
	window  int
}

type link struct {
	up, down []parcel // in transit
	dead     bool     // broken, not yet noticed by the uplink
	stalled  bool
	draining bool
	owed     []*record.Received // received, not yet acknowledged
}

type parcel struct {
	at   time.Duration
	data []byte
}

func (w *world) chance(p float64) bool { return !w.calm && w.rnd.Float64() < p }

func (w *world) delay() time.Duration { return w.now + time.Duration(w.rnd.IntN(20))*time.Millisecond }

func (w *world) Open() (Stream, error) {
	if w.chance(0.2) {
		return 0, errors.New("no healthy host")
	}
	w.next++
	w.links[w.next] = &link{}
	return w.next, nil
}

func (w *world) Send(s Stream, message []byte) error {
	if w.chance(0.002) {
		return errors.New("cannot send")
	}
	l := w.links[s]
	if l == nil {
		return errors.New("no such stream")
	}
	l.up = append(l.up, parcel{w.delay(), slices.Clone(message)})
	if w.chance(0.002) {
		delete(w.links, s)
		w.uplink.Closed(s, "broke while sending")
	}
	return nil
}

func (w *world) Cancel(s Stream) { delete(w.links, s) }
func (w *world) Warn(string)     {}

func (w *world) reply(l *link, m *collectpb.CollectorMessage) {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	at := w.delay()
	if n := len(l.down); n > 0 {
		at = max(at, l.down[n-1].at)
	}
	l.down = append(l.down, parcel{at, data})
}

// collect is the collector's end of one stream.
func (w *world) collect(l *link) error {
	for !l.stalled && len(l.up) > 0 && l.up[0].at <= w.now {
		m, err := record.ParseUplinkMessage(l.up[0].data)
		l.up = l.up[1:]
		switch {
		case err != nil:
			return err
		case m.Hello != nil:
			w.reply(l, welcome(w.window))
		case l.draining:
			l.dead = true // a collector that is gone takes nothing more
		default:
			if err := w.take(m.Batch); err != nil {
				return err
			}
			l.owed = append(l.owed, m.Batch)
		}
	}
	for i := 0; i < len(l.owed) && !l.stalled; i++ {
		if !w.calm && w.rnd.IntN(4) > 0 {
			continue
		}
		b := l.owed[i]
		for _, raw := range b.Records {
			r, err := record.Parse(raw)
			if err != nil {
				return err
			}
			w.stored[r.ID]++
			w.marked[r.ID] = w.marked[r.ID] || b.Redelivered
		}
		w.reply(l, ack(int(b.Sequence)))
		l.owed = slices.Delete(l.owed, i, i+1)
		i--
	}
	return nil
}

// take checks that a sequence number always stands for the same records, and follows the ledger.
func (w *world) take(b *record.Received) error {
	content := string(bytes.Join(b.Records, nil))
	if before, ok := w.content[b.Sequence]; ok && before != content {
		return fmt.Errorf("sequence %d stands for other records than before", b.Sequence)
	}
	w.content[b.Sequence] = content
	for _, a := range b.Answered {
		w.total = max(w.total, a.Total)
	}
	return nil
}

// disturb lets faults happen.
func (w *world) disturb() {
	for _, id := range slices.Sorted(maps.Keys(w.links)) {
		l := w.links[id]
		switch {
		case w.chance(0.004):
			l.dead = true
		case w.chance(0.002):
			l.stalled = true
		case w.chance(0.004) && !l.draining:
			l.draining = true
			w.reply(l, draining)
		case w.chance(0.02):
			w.window = w.rnd.IntN(3) * w.rnd.IntN(40_000)
			w.reply(l, window(w.window))
		}
	}
	if w.calm {
		w.window = 40_000
	}
}

// step lets ten milliseconds pass.
func (w *world) step() error {
	w.now += 10 * time.Millisecond
	w.disturb()
	for _, id := range slices.Sorted(maps.Keys(w.links)) {
		l := w.links[id]
		if l == nil {
			continue
		}
		if err := w.collect(l); err != nil {
			return err
		}
		if !l.stalled && w.now%time.Second == 0 {
			w.reply(l, window(w.window))
		}
		for !l.dead && w.links[id] == l && len(l.down) > 0 && l.down[0].at <= w.now {
			data := l.down[0].data
			l.down = l.down[1:]
			w.uplink.Received(id, data)
		}
		if l.dead || l.draining && len(l.owed)+len(l.down) == 0 && w.rnd.IntN(10) == 0 {
			if w.links[id] == l {
				delete(w.links, id)
				w.uplink.Closed(id, "broke")
			}
		}
	}
	if w.now%(100*time.Millisecond) == 0 {
		w.uplink.Tick(w.now)
	}
	if held := w.uplink.HeldBytes(); held > w.uplink.config.MaxBufferBytes {
		return fmt.Errorf("%d bytes held, more than %d", held, w.uplink.config.MaxBufferBytes)
	}
	return nil
}

func simulate(seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := &world{
		rnd: rnd, links: map[Stream]*link{}, stored: map[record.ID]int{}, marked: map[record.ID]bool{},
		content: map[uint64]string{}, window: 40_000,
	}
	u := New(Config{
		Rand: rnd, Limits: Limits{MaxBufferBytes: 60_000, MaxBatchBytes: 4_000, UnreachableTimeout: 3 * time.Second},
	}, w, &Stats{})
	w.uplink = u
	count := u.Count("leads", record.LevelMemory)
	taken := map[record.ID]bool{}
	refused := 0
	for range 1500 {
		if err := w.step(); err != nil {
			return err
		}
		if rnd.IntN(300) == 0 {
			u.Retire(func(Stream) bool { return true }) // the configuration has changed
		}
		for range rnd.IntN(4) {
			n := rnd.IntN(300)
			if rnd.IntN(50) == 0 {
				n = rnd.IntN(20_000)
			}
			if u.Reserve(n) != Taken {
				refused++
				continue
			}
			if rnd.IntN(20) == 0 {
				u.Release(n) // the client left
				continue
			}
			r := &record.Record{ID: record.NewID(time.Unix(1, 0)), Route: "leads"}
			if u.Add(r, [][]byte{make([]byte, n)}, n, count) == Taken {
				taken[r.ID] = true
			} else {
				refused++
			}
		}
	}
	// Once the faults stop, everything that was taken must be stored within bounded time.
	w.calm = true
	for range 6000 {
		if err := w.step(); err != nil {
			return err
		}
	}
	if !u.Idle() || u.HeldBytes() != 0 {
		return fmt.Errorf("%d bytes are still held after a minute of calm: %+v", u.HeldBytes(), *u.stats)
	}
	if r := (&record.Record{}); u.Add(r, nil, 0, u.Count("after", record.LevelMemory)) != Taken {
		return fmt.Errorf("a record is refused after a minute of calm: %+v", *u.stats)
	}
	for id := range taken {
		if w.stored[id] == 0 {
			return fmt.Errorf("record %v was answered and is lost", id)
		}
	}
	for id, n := range w.stored {
		if !taken[id] {
			return fmt.Errorf("record %v was refused and is stored", id)
		}
		if n > 1 && !w.marked[id] {
			return fmt.Errorf("record %v is stored %d times and never marked as redelivered", id, n)
		}
	}
	if w.total != uint64(len(taken)) {
		return fmt.Errorf("the ledger says %d answers, there were %d", w.total, len(taken))
	}
	if got := u.stats.Stored; got != uint64(len(taken)) {
		return fmt.Errorf("stats say %d stored, there were %d", got, len(taken))
	}
	if len(taken) == 0 || refused == 0 {
		return fmt.Errorf("%d taken, %d refused: the simulation shows nothing", len(taken), refused)
	}
	return nil
}

var (
	firstSeed = flag.Uint64("seed", 0, "first seed of the simulation")
	seeds     = flag.Uint64("seeds", 300, "how many seeds the simulation runs")
)

// TestSimulation runs the uplink against seeded random networks: what was taken is stored, what was refused
// is not, memory stays within its limit, and calm brings everything to an end.
func TestSimulation(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		if err := simulate(seed); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
