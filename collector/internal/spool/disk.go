package spool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// lookEvery is how often the disk is looked at, but when half of the room that was seen has been written already,
	// of which most overwrites old logs and takes no room, it is as often as lookPause allows.
	lookEvery = time.Second
	lookPause = 20 * time.Millisecond
	// reclaimEvery is how long after giving space back has ended it may begin again.
	reclaimEvery = 5 * time.Second
)

// overhead is what the directory may have beyond MaxBytes; see Config.
func (s *Spool) overhead() int64 { return s.config.MaxBytes/2 + (logs+1)*s.memtable }

// reserve is what stays free on the disk.
func (s *Spool) reserve() int64 { return max(s.config.MinFree, 2*s.memtable) }

// take gives bytes on the disk to a topic. The caller holds mu.
func (s *Spool) take(topic string, bytes int64) {
	s.disk.Take(topic, bytes)
	s.free -= bytes
	s.written += bytes
	s.limit()
	if s.free < s.seen/2 {
		wake(s.wakeLooks)
	}
}

// limit fits the pool to the disk: what is deleted leaves room in the pool at once, on the disk perhaps not before
// Pebble has tidied up. The caller holds mu.
func (s *Spool) limit() {
	s.disk.SetLimit(min(s.config.MaxBytes, s.disk.Used()+min(max(0, s.free), s.config.MaxBytes)))
}

// lookAll looks at the disk from time to time, and has space given back when there is too little.
func (s *Spool) lookAll() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ticks := time.NewTicker(lookEvery)
	defer ticks.Stop()
	looks, paused := s.wakeLooks, (<-chan time.Time)(nil)
	var reclaimed chan struct{}
	var last time.Time
	for {
		select {
		case <-ticks.C:
		case <-looks:
			looks, paused = nil, time.After(lookPause)
		case <-paused:
			looks = s.wakeLooks
			continue
		case <-reclaimed:
			reclaimed, last = nil, time.Now()
		case <-s.failed:
			return // without waiting for Pebble, which may never answer again
		case <-s.stop:
			cancel()
			if reclaimed != nil {
				select {
				case <-reclaimed:
				case <-s.failed:
				}
			}
			return
		}
		if err := s.look(); err != nil {
			s.trouble.Warn("spool: the disk cannot be looked at", "error", err)
		}
		if reclaimed == nil && s.short() && time.Since(last) >= reclaimEvery {
			reclaimed = make(chan struct{})
			go func() {
				defer close(reclaimed)
				s.reclaim(ctx)
			}()
		}
		s.unpause()
		s.tell()
	}
}

// look finds out how many bytes may be written.
func (s *Spool) look() error {
	s.mu.Lock()
	before := s.written
	s.mu.Unlock()
	m := s.db.Metrics()
	s.metrics.pebble.Store(m)
	usage, err := s.usage()
	if err != nil {
		return err
	}
	free := min(s.config.MaxBytes+s.overhead()-int64(m.DiskSpaceUsage()), int64(usage.AvailBytes)-s.reserve())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = free - (s.written - before)
	s.seen = s.free
	s.limit()
	return nil
}

// warnOfNoRoom says in the log if the spool takes nothing though it is empty: nothing that it does can change that.
func (s *Spool) warnOfNoRoom() {
	s.mu.Lock()
	used := s.disk.Used()
	s.mu.Unlock()
	usage, err := s.usage()
	if used > 0 || err != nil || int64(usage.AvailBytes) > s.reserve() {
		return
	}
	s.log.Warn("spool: it is empty and takes nothing, as its disk has no more room than must stay free; make room, choose "+
		"another directory with --spool, or lower --spool-min-free", "directory", s.config.Dir, "free", usage.AvailBytes,
		"must_stay_free", s.reserve())
}

// usage returns how large the disk is and what is free; as much as can be where the file system does not tell.
func (s *Spool) usage() (vfs.DiskUsage, error) {
	usage, err := s.config.fs().GetDiskUsage(s.config.Dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return vfs.DiskUsage{AvailBytes: math.MaxInt64, TotalBytes: math.MaxInt64}, nil
	}
	if err != nil {
		return vfs.DiskUsage{}, fmt.Errorf("spool %s: free space: %w", s.config.Dir, err)
	}
	return usage, nil
}

// short says whether the disk leaves less room than MaxBytes and Pebble holds much that is gone.
func (s *Spool) short() bool {
	held := int64(s.metrics.pebble.Load().DiskSpaceUsage())
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free < s.config.MaxBytes/2 && s.disk.Free() < s.config.MaxBytes-s.disk.Used() &&
		held > s.disk.Used()+s.disk.Used()/4+2*s.memtable
}

// reclaim has Pebble give back the space of what is gone.
func (s *Spool) reclaim(ctx context.Context) {
	s.log.Debug("spool: giving back space", "directory", s.config.Dir)
	lower, _ := bounds(kindEntry)
	_, upper := bounds(kindAside)
	err := s.db.Flush()
	if err == nil {
		err = s.db.Compact(ctx, lower, upper, false)
	}
	if err != nil && ctx.Err() == nil {
		s.trouble.Warn("spool: space could not be given back; tried again", "error", err)
	}
}

// unpause has topics tried again that could not be read.
func (s *Spool) unpause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.backlogs {
		if t.paused {
			t.paused = false
			wake(s.wakeFeeds)
		}
	}
	if len(s.appenders) > 0 { // there may be room now
		wake(s.wakeCommits)
	}
}

// room is what Room returns.
type room struct {
	free   int64
	closed []string
}

// Room returns how many bytes can be taken now, besides what has been appended, and which topics cannot take any
// because they hold their share; sorted.
func (s *Spool) Room() (free int64, closed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.room()
	return r.free, r.closed
}

// room returns the room there is. The caller holds mu.
func (s *Spool) room() room {
	if s.err != nil {
		return room{}
	}
	r := room{s.disk.Free() - s.waiting, s.disk.Closed()}
	for _, t := range s.appenders {
		if len(t.appends) > 0 && !s.disk.Fits(t.name, t.appends[0].size) {
			r.free += t.waits // which may be long: it is nobody else's
			if i, there := slices.BinarySearch(r.closed, t.name); !there {
				r.closed = slices.Insert(r.closed, i, t.name)
			}
		}
	}
	r.free = max(0, r.free)
	return r
}

// Watch has changed called whenever Room has changed by an eighth, to or from nothing, or in the topics; by a
// goroutine of the spool that holds no lock. It must return soon.
func (s *Spool) Watch(changed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed, s.told = changed, s.room()
}

// tell calls who watches, if there is reason to.
func (s *Spool) tell() {
	s.mu.Lock()
	r, told, changed := s.room(), s.told, s.changed
	notable := (r.free == 0) != (told.free == 0) || max(r.free-told.free, told.free-r.free) > told.free/8 ||
		!slices.Equal(r.closed, told.closed)
	if notable {
		s.told = r
	}
	s.mu.Unlock()
	if notable && changed != nil {
		changed()
	}
}

// fs returns the file system without what the spool adds to it.
func (c *Config) fs() vfs.FS {
	if c.FS == nil {
		return vfs.Default
	}
	return c.FS
}
