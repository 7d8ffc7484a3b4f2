package store

import (
	"sync"
	"sync/atomic"
)

// durable knows the newest commit that is on disk. bbolt shows a commit to readers
// as soon as it has written its meta page, before that page is synced: for the
// length of a flush they see what a power cut could undo, and what the disk may yet
// refuse.
type durable struct {
	commit  atomic.Int64 // number of the newest commit that is on disk
	waiting atomic.Int32 // how many wait for it to rise

	mu    sync.Mutex
	risen sync.Cond // commit or lost has changed
	lost  error     // why it won't rise any more
}

// reached says that a commit is on disk. It costs the writer two words when nobody
// waits.
func (d *durable) reached(commit int) {
	d.commit.Store(int64(commit))
	if d.waiting.Load() > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.risen.Broadcast()
	}
}

// lose says that nothing more will be on disk.
func (d *durable) lose(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost == nil {
		d.lost = err
	}
	d.risen.Broadcast()
}

// await returns once a commit that a reader has seen is on disk, or the error that
// keeps it from getting there.
func (d *durable) await(commit int) error {
	if int64(commit) <= d.commit.Load() {
		return nil
	}
	d.waiting.Add(1)
	defer d.waiting.Add(-1)
	d.mu.Lock()
	defer d.mu.Unlock()
	for int64(commit) > d.commit.Load() {
		if d.lost != nil {
			return d.lost
		}
		d.risen.Wait()
	}
	return nil
}
