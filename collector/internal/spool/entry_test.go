package spool

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/quick"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/marceloboeira/crowd/collector/record"
)

func TestContentInverse(t *testing.T) {
	inverse := func(uplink record.UplinkID, sequence uint64, redelivered bool, reason string, records [][]byte) bool {
		want := content{uplink, sequence, redelivered, reason, records}
		raw := want.append([]byte("before"))[len("before"):]
		got, err := parseContent(raw)
		if err != nil || len(raw) != want.size() {
			t.Logf("%v; %d bytes, size() is %d", err, len(raw), want.size())
			return false
		}
		return cmp.Equal(want, got, cmp.AllowUnexported(content{}), cmpopts.EquateEmpty())
	}
	if err := quick.Check(inverse, nil); err != nil {
		t.Error(err)
	}
}

// Nothing that is changed or cut off is taken for an entry: a CRC-32C finds every change of a single byte.
func TestContentDamaged(t *testing.T) {
	c := content{sequence: 7, reason: "too large", records: [][]byte{[]byte("one"), {}, []byte("three")}}
	raw := c.append(nil)
	for i := range raw {
		if got, err := parseContent(raw[:i]); err == nil {
			t.Errorf("cut off at %d: %+v", i, got)
		}
		damaged := bytes.Clone(raw)
		damaged[i] ^= 1 << (i % 8)
		if got, err := parseContent(damaged); err == nil {
			t.Errorf("changed at %d: %+v", i, got)
		}
	}
}

func FuzzContent(f *testing.F) {
	for _, c := range []content{
		{},
		{sequence: 1, redelivered: true, records: [][]byte{{}}},
		{reason: "why", records: [][]byte{[]byte("one"), bytes.Repeat([]byte("x"), 200)}},
	} {
		raw := c.append(nil)
		f.Add(raw[:len(raw)-sumSize])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := parseContent(body); err == nil && len(body) < contentHead {
			t.Errorf("%q is taken for an entry", body)
		}
		c, err := parseContent(summed(body)) // or the fuzzer would not get past the CRC
		if err != nil {
			return
		}
		again, err := parseContent(c.append(nil))
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%+v is read as %+v, %v", c, again, err)
		}
	})
}

func TestKeyInverse(t *testing.T) {
	inverse := func(aside bool, topic string, i uint64, index uint32) bool {
		want := key{kind: kindEntry, topic: topic, id: id(i)}
		if aside {
			want.kind, want.index = kindAside, index
		}
		raw := want.append(nil)
		got, err := parseKey(raw)
		return err == nil && got == want && len(raw) == want.size()
	}
	if err := quick.Check(inverse, nil); err != nil {
		t.Error(err)
	}
}

func FuzzKey(f *testing.F) {
	f.Add(key{kind: kindEntry, topic: "leads", id: 5}.append(nil))
	f.Add(key{kind: kindAside, topic: "", id: 5, index: unreadable}.append(nil))
	f.Add([]byte("e"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if k, err := parseKey(raw); err == nil && !bytes.Equal(k.append(nil), raw) {
			t.Errorf("%q is read as %v", raw, k)
		}
	})
}

// What is deleted by ranges is one topic's only, whatever is in the names of others.
func TestKeysOfTopicsLieApart(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	name := func() string {
		b := make([]byte, random.IntN(12))
		for i := range b {
			b[i] = "\x00\x01a\xff"[random.IntN(4)]
		}
		return string(b)
	}
	entry := func() id { return id(random.Uint64() >> random.IntN(64)) }
	for range 100_000 {
		k := key{kind: kindEntry, topic: name(), id: entry()}
		from := key{kind: kindEntry, topic: name(), id: entry()}
		to := from
		to.id += id(random.Uint64() >> (random.IntN(63) + 1))
		if to.id < from.id {
			continue
		}
		raw := k.append(nil)
		in := bytes.Compare(from.append(nil), raw) <= 0 && bytes.Compare(raw, to.append(nil)) < 0
		if want := k.topic == from.topic && from.id <= k.id && k.id < to.id; in != want {
			t.Fatalf("%v between %v and %v: %v", k, from, to, in)
		}
	}
}

func TestIDsNeverFall(t *testing.T) {
	at := time.Unix(1_000, 0)
	first := id(0).after(at)
	if !first.time().Equal(at) {
		t.Errorf("the first is of %v", first.time())
	}
	if got := first.after(at.Add(-time.Hour)); got != first+1 {
		t.Errorf("after %d, an hour back, comes %d", first, got)
	}
	if got := id(0).after(time.Unix(-1, 0)); got != 1 {
		t.Errorf("before 1970 comes %d", got)
	}
}
