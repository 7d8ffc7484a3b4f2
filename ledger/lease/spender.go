package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Config is how a Spender leases. What is zero gets its default.
type Config struct {
	// Block is what is drawn ahead for an account at first. It grows up to MaxBlock
	// while it is spent within seconds, and shrinks down to MinBlock while it lasts.
	// MaxBlock bounds what a crash can leave unclear, for each account.
	Block, MinBlock, MaxBlock ledger.MicroUSD
	// Idle is how long a lease may lie unused before it is given back.
	Idle time.Duration
	// Log gets what goes wrong in the background.
	Log *slog.Logger
}

func (c Config) complete() (Config, error) {
	c.MaxBlock = cmp.Or(c.MaxBlock, max(DefaultMaxBlock, c.Block))
	c.Block = cmp.Or(c.Block, min(DefaultBlock, c.MaxBlock))
	c.MinBlock = cmp.Or(c.MinBlock, min(DefaultMinBlock, c.Block))
	c.Idle = cmp.Or(c.Idle, DefaultIdle)
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.MinBlock < 1 || c.Block < c.MinBlock || c.MaxBlock < c.Block || c.MaxBlock > maxAmount {
		return c, fmt.Errorf("blocks of $%s to $%s, at first $%s: they must rise from the least to the most, which is at most $%s",
			c.MinBlock, c.MaxBlock, c.Block, maxAmount)
	}
	if c.Idle < 0 {
		return c, fmt.Errorf("leases given back after %s: must not be negative", c.Idle)
	}
	return c, nil
}

// Spender spends accounts' money from memory. Its methods, and those of its
// reservations, may be called from many goroutines. One may be open for a
// database.
type Spender struct {
	store  *store.Store
	config Config
	epoch  logID
	leases table[identity.AccountID, lease]
	caps   *caps
	log    *usageLog
	queue  *queue
	bodies sync.Pool // of *[]byte, for records

	closed  atomic.Bool
	draws   sync.WaitGroup
	stop    chan struct{} // no more is appended: fold the rest and end
	ended   sync.WaitGroup
	unsaved error // why the rest could not be folded; read after ended
}

// Open recovers what the last Spender left, see doc.go, and opens another. dir is
// the folder of the log, which is the Spender's alone. The caller must Close it,
// before the store.
func Open(ctx context.Context, st *store.Store, dir string, config Config) (*Spender, Recovered, error) {
	config, err := config.complete()
	if err != nil {
		return nil, Recovered{}, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, Recovered{}, err
	}
	state, found, err := recoverLog(ctx, st, dir, boot)
	if err != nil {
		return nil, found, fmt.Errorf("recover the charges in %s: %w", dir, err)
	}
	found.report(config.Log)
	s := &Spender{
		store: st, config: config, epoch: state.Epoch, queue: newQueue(), stop: make(chan struct{}),
		caps: &caps{store: st, watch: st.Watch(ledger.CapsBucket)},
	}
	s.log = newLog(dir, state.Epoch, state.Folded+1, s.queue)
	s.bodies.New = func() any { return new([]byte) }
	s.ended.Go(s.fold)
	s.ended.Go(s.tidy)
	return s, found, nil
}

// Close takes no more requests, refuses those that wait, folds what is in the log,
// and gives all leases back: what was reserved and not charged by now goes back
// too. If the database refuses, the log stays, and the next Open goes on from it.
// It must be called once.
func (s *Spender) Close() error {
	s.closed.Store(true)
	s.queue.shut()
	for _, l := range s.leases.all() { // one that comes later sees that it is closed
		l.mu.Lock()
		l.refuse(ErrClosed)
		l.mu.Unlock()
	}
	s.draws.Wait()
	s.log.close()
	close(s.stop)
	s.ended.Wait()
	s.queue.end()
	s.caps.watch.Close()
	if s.unsaved != nil {
		s.log.writing.Lock()
		defer s.log.writing.Unlock()
		return errors.Join(fmt.Errorf("charges are left in %s, and will be written at the next start: %w", s.log.dir, s.unsaved), s.log.release())
	}
	return errors.Join(s.log.remove(), s.returnAll())
}

// Flush returns when everything that was charged by now is in the journal. A
// *BacklogError: the Spender was closed, and could not write all of it.
func (s *Spender) Flush(ctx context.Context) error { return s.queue.drained(ctx) }

// returnAll gives back every lease, at the end.
func (s *Spender) returnAll() error {
	now := time.Now()
	var failed error
	for some := range slices.Chunk(s.leases.all(), maxReturns) {
		if err := s.giveBack(some, now, "not used: EcoLink was stopped"); err != nil {
			failed = errors.Join(failed, fmt.Errorf("give back money that was set aside for API requests: %w", err))
		}
	}
	return failed
}
