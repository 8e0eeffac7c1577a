package flow

import "slices"

// fifo is a queue. The zero value is empty.
type fifo[T any] struct {
	items []T
	taken int // of items, at the front
}

func (f *fifo[T]) len() int { return len(f.items) - f.taken }

func (f *fifo[T]) all() []T { return f.items[f.taken:] }

func (f *fifo[T]) push(item T) {
	if f.taken > len(f.items)/2 && len(f.items) == cap(f.items) {
		f.items = slices.Delete(f.items, 0, f.taken)
		f.taken = 0
	}
	f.items = append(f.items, item)
}

func (f *fifo[T]) front() T { return f.items[f.taken] }

func (f *fifo[T]) pop() T {
	item := f.items[f.taken]
	clear(f.items[f.taken : f.taken+1])
	if f.taken++; f.taken == len(f.items) {
		f.items, f.taken = f.items[:0], 0
	}
	return item
}

// take takes the i-th item out.
func (f *fifo[T]) take(i int) T {
	if i == 0 {
		return f.pop()
	}
	item := f.all()[i]
	f.items = slices.Delete(f.items, f.taken+i, f.taken+i+1)
	return item
}

// drop takes out those for which drop is true.
func (f *fifo[T]) drop(drop func(T) bool) {
	kept := slices.DeleteFunc(f.all(), drop)
	f.items = f.items[:f.taken+len(kept)]
}
