// Package offsets keeps what of a partition is done, in any order, and what to commit for it, so that another member goes
// on with just what is not.
package offsets

// MaxMetadata is the longest metadata of a commit, in bytes: the default of the brokers' offset.metadata.max.bytes.
const MaxMetadata = 4096

// State is what to commit.
type State struct {
	// Offset is that of the first record that is not done.
	Offset int64
	// Metadata says which of those behind it are done: text, at most MaxMetadata long.
	Metadata string

	// beyond is how far Metadata speaks.
	beyond int64
}

// Tracker keeps what of one partition is done. It is not safe for concurrent use.
type Tracker struct{}

// New returns the tracker of a partition for which offset was committed, with metadata as State has it, or "". An error
// says what is wrong with metadata, which then counts for nothing: the tracker is good nevertheless.
func New(offset int64, metadata string) (*Tracker, error) { panic("not yet") }

// Read says that a record has been read; offsets rise, and those between two that are read do not exist (they were
// compacted away, or are a transaction's). False: it is done already.
func (t *Tracker) Read(offset int64) bool { panic("not yet") }

// Done says that a record that Read has returned true for is done.
func (t *Tracker) Done(offset int64) { panic("not yet") }

// State returns what to commit now. Where metadata would be too long it has as much as fits, from the beginning.
func (t *Tracker) State() State { panic("not yet") }

// Committed says that a State has been committed.
func (t *Tracker) Committed(s State) { panic("not yet") }

// Uncommitted is how many records are done of which the last state committed does not say so.
func (t *Tracker) Uncommitted() int { panic("not yet") }

// Overflows reports whether State has more to say than fits: records beyond what it can tell of should then not be begun.
func (t *Tracker) Overflows() bool { panic("not yet") }
