package scheduler

import (
	"context"
	"slices"
	"sync"

	"ecolink/ledger/identity"
)

// Limits of what the machine does to drives at once.
const (
	// maxVolumeJobs is how many drives it works on: each of them may write the disk
	// at full speed.
	maxVolumeJobs = 4
	// maxAccountJobs is how many of them are one account's: another's next job need
	// not wait for one that may take an hour.
	maxAccountJobs = maxVolumeJobs - 1
)

// turns shares out the machine's work on drives. Accounts that wait have their turns
// one after the other, whichever has how much to be done; within an account, who
// came first is first. The zero value is ready. Its methods may be called from many
// goroutines.
type turns struct {
	mu      sync.Mutex
	total   int                                    // that have their turn
	running map[identity.AccountID]int             // the same by account, without zeros
	waiting map[identity.AccountID][]chan struct{} // closed when it is their turn
	line    []identity.AccountID                   // those that wait, the next first
}

// take waits for a turn of the account's. The caller calls done when it has had it.
// The error is that of ctx.
func (t *turns) take(ctx context.Context, a identity.AccountID) (done func(), err error) {
	turn := make(chan struct{})
	t.mu.Lock()
	if t.waiting == nil {
		t.waiting, t.running = map[identity.AccountID][]chan struct{}{}, map[identity.AccountID]int{}
	}
	if len(t.waiting[a]) == 0 {
		t.line = append(t.line, a)
	}
	t.waiting[a] = append(t.waiting[a], turn)
	t.share()
	t.mu.Unlock()
	select {
	case <-turn:
		return func() { t.end(a) }, nil
	case <-ctx.Done():
		t.leave(a, turn)
		return nil, ctx.Err()
	}
}

// share gives turns to those who may have one. The caller holds mu.
func (t *turns) share() {
	for t.total < maxVolumeJobs {
		n := slices.IndexFunc(t.line, func(a identity.AccountID) bool { return t.running[a] < maxAccountJobs })
		if n < 0 {
			return
		}
		a := t.line[n]
		next := t.waiting[a][0]
		t.line = slices.Delete(t.line, n, n+1)
		if t.waiting[a] = t.waiting[a][1:]; len(t.waiting[a]) > 0 {
			t.line = append(t.line, a)
		} else {
			delete(t.waiting, a)
		}
		t.total++
		t.running[a]++
		close(next)
	}
}

func (t *turns) end(a identity.AccountID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total--
	if t.running[a]--; t.running[a] == 0 {
		delete(t.running, a)
	}
	t.share()
}

// leave takes one that does not wait any more out of the line.
func (t *turns) leave(a identity.AccountID, turn chan struct{}) {
	t.mu.Lock()
	n := slices.Index(t.waiting[a], turn)
	if n < 0 { // its turn came at the same moment
		t.mu.Unlock()
		t.end(a)
		return
	}
	defer t.mu.Unlock()
	if t.waiting[a] = slices.Delete(t.waiting[a], n, n+1); len(t.waiting[a]) == 0 {
		delete(t.waiting, a)
		t.line = slices.DeleteFunc(t.line, func(other identity.AccountID) bool { return other == a })
	}
}
