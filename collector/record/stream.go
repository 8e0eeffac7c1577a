package record

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// UplinkMessage is what an uplink sends: one field is set, or none where the message is of a kind that this version
// does not know.
type UplinkMessage struct {
	Hello *Hello
	Batch *Received
}

// Received is a Batch message as a collector sees it.
type Received struct {
	Head
	Answered []Answered
	Records  [][]byte // each for Parse
}

var (
	uplinkTypes = types{none, protowire.BytesType, protowire.BytesType}
	helloTypes  = types{none, protowire.BytesType, protowire.BytesType, protowire.BytesType, protowire.VarintType}
	batchTypes  = types{
		none, protowire.VarintType, protowire.VarintType, protowire.BytesType, protowire.BytesType, protowire.VarintType,
	}
	answeredTypes = types{none, protowire.BytesType, protowire.VarintType, protowire.VarintType}
)

// ParseUplinkMessage reads an encoded UplinkMessage. What it returns points into raw, which must not change
// while it is in use.
func ParseUplinkMessage(raw []byte) (UplinkMessage, error) {
	var m UplinkMessage
	err := fields(raw, func(f field) error {
		switch f.number {
		case fieldHello:
			h, err := parseHello(f.bytes)
			m = UplinkMessage{Hello: h}
			return err
		case fieldBatch:
			b, err := parseBatch(f.bytes)
			m = UplinkMessage{Batch: b}
			return err
		}
		return nil
	}, uplinkTypes)
	if err != nil {
		return UplinkMessage{}, fmt.Errorf("message of an uplink: %w", err)
	}
	return m, nil
}

func parseHello(raw []byte) (*Hello, error) {
	h := &Hello{}
	seen := false
	err := fields(raw, func(f field) error {
		switch f.number {
		case fieldHelloUplink:
			if len(f.bytes) != len(h.Uplink) {
				return fmt.Errorf("%w: uplink of %d bytes", ErrWire, len(f.bytes))
			}
			copy(h.Uplink[:], f.bytes)
			seen = true
		case fieldHelloNodeID:
			h.NodeID = text(f.bytes)
		case fieldHelloNodeCluster:
			h.NodeCluster = text(f.bytes)
		case fieldHelloVersion:
			h.Version = uint32(f.scalar)
		}
		return nil
	}, helloTypes)
	if err == nil && !seen {
		err = fmt.Errorf("%w: hello without uplink", ErrWire)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

func parseBatch(raw []byte) (*Received, error) {
	b := &Received{}
	records := 0
	for s := (scanner{raw: raw, known: batchTypes}); s.next(); {
		if s.number == fieldBatchRecords {
			records++
		}
	}
	if records > 0 {
		b.Records = make([][]byte, 0, records)
	}
	err := fields(raw, func(f field) error {
		switch f.number {
		case fieldBatchSequence:
			b.Sequence = f.scalar
		case fieldBatchRedelivered:
			b.Redelivered = f.scalar != 0
		case fieldBatchSettled:
			b.SettledBelow = f.scalar
		case fieldBatchAnswered:
			a, err := parseAnswered(f.bytes)
			b.Answered = append(b.Answered, a)
			return err
		case fieldBatchRecords:
			b.Records = append(b.Records, f.bytes)
		}
		return nil
	}, batchTypes)
	if err == nil && b.Sequence == 0 {
		err = fmt.Errorf("%w: batch without sequence", ErrWire)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func parseAnswered(raw []byte) (a Answered, err error) {
	err = fields(raw, func(f field) error {
		switch f.number {
		case fieldAnsweredRoute:
			a.Route = text(f.bytes)
		case fieldAnsweredLevel:
			a.Level = level(f.scalar)
		case fieldAnsweredAnswers:
			a.Answers = f.scalar
		}
		return nil
	}, answeredTypes)
	return a, err
}

// CollectorMessage is what a collector sends: exactly one field is set.
type CollectorMessage struct {
	Welcome  *Welcome
	Ack      *Ack
	Window   *Window
	Draining bool
}

// Welcome answers Hello.
type Welcome struct {
	Levels    []Level
	Window    int // bytes
	Collector string
	Version   uint32
	Instance  []byte
}

// Ack says that a batch has reached a level.
type Ack struct {
	Sequence uint64
	Level    Level
	Refused  []Refused
}

// Refused is a record of the batch that Kafka does not take.
type Refused struct {
	Index        int // in the batch, from 0
	Reason       string
	Class        string
	DeadLettered bool // it is in the dead-letter topic
}

// Window replaces the stream's window.
type Window struct {
	Bytes  int
	Direct int // bytes for batches that pass the spool by, where that is more
	Closed []ClosedTopic
}

// ClosedTopic is a topic that takes nothing more from routes that ask for a level.
type ClosedTopic struct {
	Topic string
	Level Level
}

// Field numbers of collectpb.CollectorMessage, Welcome, Ack, Refused and Window.
const (
	fieldWelcome  protowire.Number = 1
	fieldAckMsg   protowire.Number = 2
	fieldWindow   protowire.Number = 3
	fieldDraining protowire.Number = 4

	fieldWelcomeLevels    protowire.Number = 1
	fieldWelcomeWindow    protowire.Number = 2
	fieldWelcomeCollector protowire.Number = 3
	fieldWelcomeVersion   protowire.Number = 4
	fieldWelcomeInstance  protowire.Number = 5

	fieldAckSequence protowire.Number = 1
	fieldAckLevel    protowire.Number = 2
	fieldAckRefused  protowire.Number = 3

	fieldRefusedIndex        protowire.Number = 1
	fieldRefusedReason       protowire.Number = 2
	fieldRefusedClass        protowire.Number = 3
	fieldRefusedDeadLettered protowire.Number = 4

	fieldWindowBytes  protowire.Number = 1
	fieldWindowClosed protowire.Number = 2
	fieldWindowDirect protowire.Number = 3

	fieldClosedTopic protowire.Number = 1
	fieldClosedLevel protowire.Number = 2
)

var (
	collectorTypes = types{none, protowire.BytesType, protowire.BytesType, protowire.BytesType, protowire.BytesType}
	// Repeated numbers are packed, as proto3 writes them.
	welcomeTypes = types{
		none, protowire.BytesType, protowire.VarintType, protowire.BytesType, protowire.VarintType, protowire.BytesType,
	}
	ackTypes     = types{none, protowire.VarintType, protowire.VarintType, protowire.BytesType}
	refusedTypes = types{none, protowire.VarintType, protowire.BytesType, protowire.BytesType, protowire.VarintType}
	windowTypes  = types{none, protowire.VarintType, protowire.BytesType, protowire.VarintType}
	closedTypes  = types{none, protowire.BytesType, protowire.VarintType}
)

// ParseCollectorMessage reads an encoded CollectorMessage. What it returns points into raw. A message of a
// kind that this version does not know is returned with no field set, for the uplink to ignore.
func ParseCollectorMessage(raw []byte) (CollectorMessage, error) {
	var m CollectorMessage
	err := fields(raw, func(f field) error {
		switch f.number {
		case fieldWelcome:
			w, err := parseWelcome(f.bytes)
			m = CollectorMessage{Welcome: w}
			return err
		case fieldAckMsg:
			a, err := parseAck(f.bytes)
			m = CollectorMessage{Ack: a}
			return err
		case fieldWindow:
			w, err := parseWindow(f.bytes)
			m = CollectorMessage{Window: w}
			return err
		case fieldDraining:
			m = CollectorMessage{Draining: true}
		}
		return nil
	}, collectorTypes)
	if err != nil {
		return CollectorMessage{}, fmt.Errorf("message of a collector: %w", err)
	}
	return m, nil
}

func parseWelcome(raw []byte) (*Welcome, error) {
	w := &Welcome{}
	err := fields(raw, func(f field) error {
		switch f.number {
		case fieldWelcomeLevels:
			return packed(f.bytes, func(v uint64) { w.Levels = append(w.Levels, level(v)) })
		case fieldWelcomeWindow:
			w.Window = clampInt32(f.scalar)
		case fieldWelcomeCollector:
			w.Collector = text(f.bytes)
		case fieldWelcomeVersion:
			w.Version = uint32(f.scalar)
		case fieldWelcomeInstance:
			w.Instance = f.bytes
		}
		return nil
	}, welcomeTypes)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// packed visits the numbers of a packed field.
func packed(raw []byte, visit func(uint64)) error {
	for len(raw) > 0 {
		v, n := protowire.ConsumeVarint(raw)
		if n < 0 {
			return fmt.Errorf("%w: packed numbers: %w", ErrWire, protowire.ParseError(n))
		}
		visit(v)
		raw = raw[n:]
	}
	return nil
}

func parseAck(raw []byte) (*Ack, error) {
	a := &Ack{}
	err := fields(raw, func(f field) error {
		switch f.number {
		case fieldAckSequence:
			a.Sequence = f.scalar
		case fieldAckLevel:
			a.Level = level(f.scalar)
		case fieldAckRefused:
			r, err := parseRefused(f.bytes)
			a.Refused = append(a.Refused, r)
			return err
		}
		return nil
	}, ackTypes)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func parseRefused(raw []byte) (r Refused, err error) {
	err = fields(raw, func(f field) error {
		switch f.number {
		case fieldRefusedIndex:
			r.Index = clampInt32(f.scalar)
		case fieldRefusedReason:
			r.Reason = text(f.bytes)
		case fieldRefusedClass:
			r.Class = text(f.bytes)
		case fieldRefusedDeadLettered:
			r.DeadLettered = f.scalar != 0
		}
		return nil
	}, refusedTypes)
	return r, err
}

func parseWindow(raw []byte) (*Window, error) {
	w := &Window{}
	err := fields(raw, func(f field) error {
		switch f.number {
		case fieldWindowBytes:
			w.Bytes = clampInt32(f.scalar)
		case fieldWindowClosed:
			c, err := parseClosed(f.bytes)
			w.Closed = append(w.Closed, c)
			return err
		case fieldWindowDirect:
			w.Direct = clampInt32(f.scalar)
		}
		return nil
	}, windowTypes)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func parseClosed(raw []byte) (c ClosedTopic, err error) {
	err = fields(raw, func(f field) error {
		switch f.number {
		case fieldClosedTopic:
			c.Topic = text(f.bytes)
		case fieldClosedLevel:
			c.Level = level(f.scalar)
		}
		return nil
	}, closedTypes)
	return c, err
}
