package spool

// topic is what the spool knows of a topic for which something waits. Its entries on the disk are, from the oldest:
//
//	| some are gone already | flight: in memory, with deliver | backlog: on the disk only |
//
// An entry leaves the backlog at its old end only, and joins the flight at its new end only, so that whatever lies
// between two neighbours of the flight is gone. Spool.mu guards all of it.
type topic struct {
	name    string
	entries int // on the disk

	appends []*appending // in order; not committed yet
	waits   int64        // bytes of them
	listed  bool         // is among Spool.appenders

	oldest, newest *flying   // the flight
	done           []*flying // of the flight; in the order in which they were done

	backlog int   // how many entries
	next    id    // the backlog's are this one or later
	need    int64 // bytes of memory that its oldest takes, as far as known
	paused  bool  // could not be read; until the next look
}

// flying is an entry in memory, with deliver.
type flying struct {
	topic      *topic
	id         id
	size       int64
	overdraws  bool // is in memory on top of what topics share
	done, gone bool
	aside      []aside // to be set aside with its deletion

	older, newer *flying // neighbours in the flight
}

// aside is what is set aside: a key and its value.
type aside struct {
	key   key
	value []byte
}

// fly adds an entry to the flight, which must be newer than all of it.
func (t *topic) fly(entry id, size int64) *flying {
	f := &flying{topic: t, id: entry, size: size, older: t.newest}
	if f.older == nil {
		t.oldest = f
	} else {
		f.older.newer = f
	}
	t.newest = f
	return f
}

// run is one or more entries that are done and between which nothing is left.
type run struct {
	topic       *topic
	first, last id
	entries     int
	bytes       int64
	aside       []aside
}

// land takes what is done out of the flight, as few runs.
func (t *topic) land() []run {
	var runs []run
	for _, f := range t.done {
		if f.gone {
			continue
		}
		first, last := f, f
		for first.older != nil && first.older.done {
			first = first.older
		}
		for last.newer != nil && last.newer.done {
			last = last.newer
		}
		r := run{topic: t, first: first.id, last: last.id}
		for at := first; at != last.newer; at = at.newer {
			at.gone = true
			r.entries++
			r.bytes += at.size
			r.aside = append(r.aside, at.aside...)
		}
		if first.older == nil {
			t.oldest = last.newer
		} else {
			first.older.newer = last.newer
		}
		if last.newer == nil {
			t.newest = first.older
		} else {
			last.newer.older = first.older
		}
		runs = append(runs, r)
	}
	t.done = nil
	return runs
}

// waiting returns the id of the oldest entry that is not done, or a little less; 0 where there is none.
func (t *topic) waiting() id {
	switch {
	case t.oldest != nil:
		return t.oldest.id
	case t.backlog > 0:
		return t.next
	}
	return 0
}
