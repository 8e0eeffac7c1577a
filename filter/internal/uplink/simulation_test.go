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
// with what is under way in both directions; collectors stall, store late, have no more disk, close topics and windows, drain,
// are killed with all that they have not stored, and come back.
type world struct {
	rnd        *rand.Rand
	uplink     *Uplink
	now        time.Duration
	next       Stream
	collectors []*collector
	links      map[Stream]*link
	stored     map[record.ID]int          // how often
	level      map[record.ID]record.Level // the highest
	marked     map[record.ID]bool
	content    map[uint64]string // what a sequence number stands for
	answered   uint64            // as clients saw it
	answers    uint64            // reported
	reported   map[uint64]bool   // whose answers have been counted
	calm       bool              // no more faults
	waiting    map[*client]bool
	err        error
}

// collector is a process; once it is down there is another one in its place.
type collector struct {
	instance string
	down     bool
	draining bool
	stalled  bool
	window   int
	closed   bool                        // the topic "leads", for all levels
	full     bool                        // the spool
	seen     map[uint64]*batchAt         // of which it knows
	working  map[*batchAt]bool           // not stored yet
	waits    map[*batchAt]map[*link]bool // for the ack
}

type batchAt struct {
	batch  *record.Received
	stored bool
}

type link struct {
	at       *collector
	up, down []parcel // in transit
	dead     bool     // broken, not yet noticed by the uplink
	told     bool     // that the collector drains
}

type parcel struct {
	at   time.Duration
	data []byte
}

// client waits for its answer.
type client struct {
	world *world
	id    record.ID
	asks  record.Level
	until time.Duration
	left  bool
}

func (c *client) Settled(o Outcome) bool {
	w := c.world
	switch {
	case !w.waiting[c]:
		w.err = errors.Join(w.err, fmt.Errorf("record %v is settled twice", c.id))
	case o.Level == 0 && o.Refused == "" && w.now < c.until:
		w.err = errors.Join(w.err, fmt.Errorf("record %v: told too early that it takes too long", c.id))
	case o.Level != 0 && (o.Level < c.asks || w.level[c.id] < c.asks):
		w.err = errors.Join(w.err, fmt.Errorf("record %v: answered at %v, asks for %v, is at %v", c.id, o.Level, c.asks, w.level[c.id]))
	}
	delete(w.waiting, c)
	if c.left || o.Level == 0 {
		return false
	}
	w.answered++
	return true
}

func (w *world) chance(p float64) bool { return !w.calm && w.rnd.Float64() < p }

func (w *world) delay() time.Duration { return w.now + time.Duration(w.rnd.IntN(20))*time.Millisecond }

func (w *world) newCollector() *collector {
	return &collector{
		instance: fmt.Sprint(w.rnd.Uint64()), window: 40_000, seen: map[uint64]*batchAt{}, working: map[*batchAt]bool{},
		waits: map[*batchAt]map[*link]bool{},
	}
}

func (w *world) Open() (Stream, error) {
	c := w.collectors[w.rnd.IntN(len(w.collectors))]
	if c.down || c.draining || w.chance(0.2) {
		return 0, errors.New("no healthy host")
	}
	w.next++
	w.links[w.next] = &link{at: c}
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

func (c *collector) windowMessage() *collectpb.CollectorMessage {
	m := window(c.window)
	if c.full {
		m.GetWindow().Bytes, m.GetWindow().DirectBytes = 0, uint64(c.window)
	}
	if c.closed {
		for _, level := range []collectpb.Level{1, 2, 3} {
			m.GetWindow().Closed = append(m.GetWindow().Closed, &collectpb.ClosedTopic{Topic: "leads", Level: level})
		}
	}
	return m
}

// collect is the collector's end of one stream.
func (w *world) collect(l *link) error {
	for !l.at.stalled && !l.at.down && len(l.up) > 0 && l.up[0].at <= w.now {
		m, err := record.ParseUplinkMessage(l.up[0].data)
		l.up = l.up[1:]
		switch {
		case err != nil:
			return err
		case m.Hello != nil:
			w.reply(l, welcomeOf(l.at.instance, l.at.window))
		default:
			if err := w.take(l, m.Batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// take checks that a sequence number always stands for the same records, and drops repeats.
func (w *world) take(l *link, b *record.Received) error {
	content := string(bytes.Join(b.Records, nil)) + fmt.Sprint(b.Answered)
	if before, ok := w.content[b.Sequence]; ok && before != content {
		return fmt.Errorf("sequence %d stands for other records than before", b.Sequence)
	}
	w.content[b.Sequence] = content
	for sequence := range l.at.seen {
		if sequence < b.SettledBelow {
			delete(l.at.seen, sequence)
		}
	}
	known := l.at.seen[b.Sequence]
	switch {
	case known == nil:
		if b.SettledBelow > b.Sequence {
			return fmt.Errorf("sequence %d comes though all below %d are settled", b.Sequence, b.SettledBelow)
		}
		known = &batchAt{batch: b}
		l.at.seen[b.Sequence] = known
		l.at.working[known] = true
		l.at.waits[known] = map[*link]bool{l: true}
	case known.stored:
		return w.acknowledge(l, known)
	default:
		l.at.waits[known][l] = true
	}
	return nil
}

func (w *world) acknowledge(l *link, b *batchAt) error {
	level := collectpb.Level_LEVEL_DISK
	for i, raw := range b.batch.Records {
		r, err := record.Parse(raw)
		if err != nil {
			return err
		}
		if r.Ack.Direct() {
			level = collectpb.Level_LEVEL_KAFKA
		}
		first, err := record.Parse(b.batch.Records[0])
		if err != nil {
			return err
		}
		if i > 0 && (r.Topic != first.Topic || r.Ack.Direct() != first.Ack.Direct()) {
			return fmt.Errorf("batch %d mixes topics or classes", b.batch.Sequence)
		}
	}
	w.reply(l, ackAt(level, int(b.batch.Sequence)))
	return nil
}

// work is a collector that stores.
func (w *world) work(c *collector) error {
	if c.stalled {
		return nil
	}
	for _, b := range slices.SortedFunc(maps.Keys(c.working), func(x, y *batchAt) int {
		return int(x.batch.Sequence) - int(y.batch.Sequence)
	}) {
		if !w.calm && w.rnd.IntN(4) > 0 {
			continue
		}
		if len(b.batch.Records) > 0 && c.full {
			r, err := record.Parse(b.batch.Records[0])
			if err != nil {
				return err
			}
			if !r.Ack.Direct() {
				continue
			}
		}
		for _, raw := range b.batch.Records {
			r, err := record.Parse(raw)
			if err != nil {
				return err
			}
			w.stored[r.ID]++
			w.marked[r.ID] = w.marked[r.ID] || b.batch.Redelivered
			w.level[r.ID] = max(w.level[r.ID], record.LevelDisk)
			if r.Ack.Direct() {
				w.level[r.ID] = record.LevelKafka
			}
		}
		if !w.reported[b.batch.Sequence] {
			w.reported[b.batch.Sequence] = true
			for _, a := range b.batch.Answered {
				w.answers += a.Answers
			}
		}
		b.stored = true
		delete(c.working, b)
		for _, l := range w.links {
			if c.waits[b][l] && !l.dead {
				if err := w.acknowledge(l, b); err != nil {
					return err
				}
			}
		}
		delete(c.waits, b)
	}
	return nil
}

// disturb lets faults happen.
func (w *world) disturb() {
	for i, c := range w.collectors {
		switch {
		case c.down:
			if w.calm || w.chance(0.02) {
				w.collectors[i] = w.newCollector()
			}
		case w.chance(0.002): // kill -9
			c.down = true
			c.working = nil
		case w.chance(0.001):
			c.stalled = true
		case w.chance(0.002):
			c.draining = true
		case w.chance(0.01):
			c.window = w.rnd.IntN(3) * w.rnd.IntN(40_000)
		case w.chance(0.01):
			c.closed = !c.closed
		case w.chance(0.01):
			c.full = !c.full
		case c.draining && len(c.working) == 0 && w.rnd.IntN(10) == 0:
			c.down = true
		}
		if w.calm {
			c.window, c.closed, c.full = 40_000, false, false
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.links)) {
		if l := w.links[id]; w.chance(0.004) || l.at.down {
			l.dead = true
		}
	}
}

// step lets ten milliseconds pass.
func (w *world) step() error {
	w.now += 10 * time.Millisecond
	w.disturb()
	for _, c := range w.collectors {
		if !c.down {
			if err := w.work(c); err != nil {
				return err
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.links)) {
		l := w.links[id]
		if l == nil {
			continue
		}
		if err := w.collect(l); err != nil {
			return err
		}
		if l.at.draining && !l.told {
			l.told = true
			w.reply(l, draining)
		}
		if !l.at.stalled && (w.now%time.Second == 0 || w.rnd.IntN(20) == 0) {
			w.reply(l, l.at.windowMessage())
		}
		for !l.dead && w.links[id] == l && len(l.down) > 0 && l.down[0].at <= w.now {
			data := l.down[0].data
			l.down = l.down[1:]
			w.uplink.Received(id, data)
		}
		if l.dead && w.links[id] == l {
			delete(w.links, id)
			w.uplink.Closed(id, "broke")
		}
	}
	if w.now%(100*time.Millisecond) == 0 {
		w.uplink.Tick(w.now)
		if memory, held := w.uplink.memory(), w.uplink.HeldBytes(); memory > maxCap*held {
			return fmt.Errorf("batches have %d bytes of memory, and %d count as held", memory, held)
		}
		for c := range w.waiting {
			if w.now > c.until+200*time.Millisecond {
				return fmt.Errorf("record %v: a client waits %v too long", c.id, w.now-c.until)
			}
		}
	}
	if held := w.uplink.HeldBytes(); held > w.uplink.config.MaxBufferBytes {
		return fmt.Errorf("%d bytes held, more than %d", held, w.uplink.config.MaxBufferBytes)
	}
	return w.err
}

// memory is what batches have, but for the report that there may be.
func (u *Uplink) memory() (bytes int) {
	count := func(b *batch) {
		if b != nil && b.lane != u.reports {
			bytes += b.Cap()
		}
	}
	for _, l := range u.lanes {
		count(l.pending)
		for _, b := range l.queue {
			count(b)
		}
	}
	for _, s := range u.streams {
		for _, b := range s.inflight {
			count(b)
		}
	}
	return bytes
}

func simulate(seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := &world{
		rnd: rnd, links: map[Stream]*link{}, stored: map[record.ID]int{}, level: map[record.ID]record.Level{},
		marked: map[record.ID]bool{}, content: map[uint64]string{}, reported: map[uint64]bool{}, waiting: map[*client]bool{},
	}
	for range 1 + rnd.IntN(3) {
		w.collectors = append(w.collectors, w.newCollector())
	}
	u := New(Config{
		Rand: rnd, Limits: Limits{
			MaxBufferBytes: 60_000, MaxBatchBytes: 4_000, UnreachableTimeout: 3 * time.Second, Streams: 1 + rnd.IntN(3),
		},
	}, w, &Stats{})
	w.uplink = u
	const patience = time.Second
	var routes []*Route
	for _, topic := range []string{"leads", "orders"} {
		for _, level := range []record.Level{record.LevelMemory, record.LevelDisk, record.LevelKafka} {
			routes = append(routes, u.Route(topic+level.String(), topic, level, patience))
		}
	}
	taken, refused := map[record.ID]bool{}, 0
	for range 1500 {
		if err := w.step(); err != nil {
			return err
		}
		if rnd.IntN(300) == 0 {
			u.Retire(func(Stream) bool { return true }) // the configuration has changed
		}
		for c := range w.waiting {
			if rnd.IntN(200) == 0 {
				c.left = true
			}
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
			route := routes[rnd.IntN(len(routes))]
			r := &record.Record{
				ID: record.NewID(time.Unix(1, 0)), Route: route.answered.Route, Topic: route.lane.topic, Ack: route.answered.Level,
				Body: make([]byte, n),
			}
			var waits Waiter
			c := &client{world: w, id: r.ID, asks: r.Ack, until: u.now + patience}
			if r.Ack != record.LevelMemory {
				w.waiting[c], waits = true, c
			}
			if u.Add(route, r.Parts(), n, waits) == Taken {
				taken[r.ID] = true
				if waits == nil {
					w.answered++
				}
			} else {
				delete(w.waiting, c)
				refused++
			}
			if rnd.IntN(3) == 0 {
				u.Send()
			}
		}
	}
	u.Send()
	// Once the faults stop, everything that was taken must be stored within bounded time.
	w.calm = true
	for _, c := range w.collectors {
		c.down = c.down || c.stalled || c.draining
	}
	for range 6000 {
		if err := w.step(); err != nil {
			return err
		}
	}
	if !u.Idle() || u.HeldBytes() != 0 || len(w.waiting) > 0 {
		return fmt.Errorf("%d bytes are still held and %d clients wait after a minute of calm: %+v", u.HeldBytes(),
			len(w.waiting), *u.stats)
	}
	if u.wire != 0 || u.direct != 0 {
		return fmt.Errorf("%d bytes to be sent after all is done, %d of them direct", u.wire, u.direct)
	}
	for _, l := range u.lanes {
		if l.held != 0 || l.inflight != 0 {
			return fmt.Errorf("lane %v: %d bytes and %d batches after all is done", l.laneKey, l.held, l.inflight)
		}
	}
	if refusal := u.Add(routes[0], (&record.Record{Topic: "leads"}).Parts(), 0, nil); refusal != Taken {
		return fmt.Errorf("a record is refused (%v) after a minute of calm: %+v", refusal, *u.stats)
	}
	for id := range taken {
		if w.stored[id] == 0 {
			return fmt.Errorf("record %v was taken and is lost", id)
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
	if w.answers != w.answered {
		return fmt.Errorf("the ledger says %d answers, there were %d", w.answers, w.answered)
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
// is not, who waits is answered only for what is stored and never waits too long, memory stays within its limit, and
// calm brings everything to an end.
func TestSimulation(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		if err := simulate(seed); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
