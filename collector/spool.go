package collector

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/marceloboeira/crowd/collector/internal/spool"
	"github.com/marceloboeira/crowd/collector/record"
)

// SpoolDump says what DumpSpool writes.
type SpoolDump struct {
	JSON     bool // one JSON object for each entry, on a line of its own
	SetAside bool // records that were set aside, instead of entries that wait for Kafka
}

// dumpedEntry and dumpedRecord are the JSON of an entry.
type dumpedEntry struct {
	Topic       string         `json:"topic"`
	ID          uint64         `json:"id"`
	Stored      time.Time      `json:"stored"`
	Uplink      string         `json:"uplink"`
	Sequence    uint64         `json:"sequence"`
	Redelivered bool           `json:"redelivered"`
	Reason      string         `json:"reason,omitempty"`
	Records     []dumpedRecord `json:"records"`
	Problems    []string       `json:"problems,omitempty"`
}

type dumpedRecord struct {
	ID        string    `json:"id"`
	Route     string    `json:"route"`
	Received  time.Time `json:"received"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	BodyBytes int       `json:"body_bytes"`
}

// DumpSpool writes to w what is in the spool in dir, which no collector may be using. It is not an error that something
// in it cannot be read: that is listed too.
func DumpSpool(dir string, w io.Writer, d SpoolDump, log *slog.Logger) error {
	return spool.Visit(dir, nil, log, func(f *spool.Found) error {
		if f.SetAside != d.SetAside {
			return nil
		}
		e := dumpedEntry{
			Topic: f.Topic, ID: f.ID, Stored: f.Stored, Uplink: hex.EncodeToString(f.Uplink[:]), Sequence: f.Sequence,
			Redelivered: f.Redelivered, Reason: f.Reason, Records: []dumpedRecord{},
		}
		for i := range f.Records {
			e.Records = append(e.Records, dump(&f.Records[i]))
		}
		for _, p := range f.Problems {
			e.Problems = append(e.Problems, p.Error())
		}
		if d.JSON {
			return json.NewEncoder(w).Encode(e)
		}
		return e.print(w)
	})
}

func dump(r *record.Record) dumpedRecord {
	return dumpedRecord{
		ID: r.ID.String(), Route: r.Route, Received: r.Received.UTC(), Method: r.Method, Path: r.Path, BodyBytes: len(r.Body),
	}
}

// print writes the entry for people. What comes from clients is quoted, so that it cannot fake a line.
func (e *dumpedEntry) print(w io.Writer) error {
	redelivered := ""
	if e.Redelivered {
		redelivered = ", redelivered"
	}
	text := fmt.Appendf(nil, "topic %q, entry %d: stored %s, uplink %s, sequence %d%s\n", e.Topic, e.ID,
		e.Stored.Format(time.RFC3339Nano), e.Uplink, e.Sequence, redelivered)
	if e.Reason != "" {
		text = fmt.Appendf(text, "  set aside: %q\n", e.Reason)
	}
	for _, r := range e.Records {
		text = fmt.Appendf(text, "  %s %s route %q: %q %q, %d bytes\n", r.ID, r.Received.Format(time.RFC3339Nano), r.Route,
			r.Method, r.Path, r.BodyBytes)
	}
	for _, p := range e.Problems {
		text = fmt.Appendf(text, "  problem: %s\n", p)
	}
	_, err := w.Write(text)
	return err
}

// VerifySpool reads all of the spool in dir, which no collector may be using, and writes to w what is wrong with what,
// and what there is. It returns an error if anything is wrong.
func VerifySpool(dir string, w io.Writer, log *slog.Logger) error {
	var entries, records, setAside, bad int
	topics := map[string]bool{}
	err := spool.Visit(dir, nil, log, func(f *spool.Found) error {
		for _, p := range f.Problems {
			if _, err := fmt.Fprintln(w, p); err != nil {
				return err
			}
		}
		if len(f.Problems) > 0 {
			bad++
		}
		if f.SetAside {
			setAside++
			return nil
		}
		entries++
		records += len(f.Records)
		topics[f.Topic] = true
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s: %d entries with %d records for %d topics, and %d set aside\n", dir, entries, records,
		len(topics), setAside); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("spool %s: %d entries are not valid", dir, bad)
	}
	return nil
}
