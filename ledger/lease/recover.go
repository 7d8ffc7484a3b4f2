package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Recovered is what Open found of the Spender before it. It is all zero after a
// clean stop.
type Recovered struct {
	Records  int             // of the log that the journal did not have
	Charged  ledger.MicroUSD // for them
	Unbilled ledger.MicroUSD // what they cost beyond the accounts' money
	Leases   int             // that were given back
	// Stuck is how many records can't be charged, see StuckCharge: their lease can't
	// be read, or this database, restored from a backup, does not have it.
	Stuck       int
	StuckAmount ledger.MicroUSD
	// Unreadable are the accounts whose lease could not be given back, and why.
	Unreadable []error
	// Torn and Gaps are how many segments end in a record that is not whole, and
	// have something else in between. Gaps come from power cuts only.
	Torn, Gaps int
	// Aside are segments that this database can't say to have folded: another's, its
	// own from before a backup was restored, and those with stuck records.
	Aside []string
}

// report logs what the operator must look into.
func (r Recovered) report(log *slog.Logger) {
	if r.Stuck > 0 {
		log.Error("API requests can't be charged, and are kept as stuck charges", "requests", r.Stuck, "amount", r.StuckAmount)
	}
	for _, err := range r.Unreadable {
		log.Error("money that was set aside for API requests can't be given back", "err", err)
	}
	for _, path := range r.Aside {
		log.Error("a part of the log of charges is not known to have been charged, and was moved aside", "path", path)
	}
}

const asideFolder = "aside"

// recovery is an Open's work on what the last Spender left.
type recovery struct {
	store *store.Store
	dir   string
	state logState
	found Recovered
	done  []string // segments that can be removed once a new epoch has begun
}

// recoverLog folds what the log has beyond the journal, gives back all leases,
// begins a new epoch and removes the log.
func recoverLog(ctx context.Context, st *store.Store, dir string, boot logID) (logState, Recovered, error) {
	r := &recovery{store: st, dir: dir}
	err := r.run(ctx, boot)
	return r.state, r.found, err
}

func (r *recovery) run(ctx context.Context, boot logID) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	var err error
	if r.state, err = readState(r.store); err != nil {
		return err
	}
	paths, err := segmentPaths(r.dir)
	if err != nil {
		return err
	}
	ours, old := segmentsOf(paths, r.state.Epoch), segmentsOf(paths, r.state.Previous)
	for n, path := range ours {
		if err := r.fold(ctx, path, modeOf(n, len(ours), r.state.Boot == boot)); err != nil {
			return err
		}
	}
	for _, path := range paths {
		if slices.Contains(ours, path) {
			continue
		}
		if err := r.judge(path, slices.Contains(old, path)); err != nil {
			return err
		}
	}
	if err := r.returnLeft(ctx); err != nil {
		return err
	}
	if r.state, err = nextEpoch(ctx, r.store, boot); err != nil {
		return err
	}
	for _, path := range r.done {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// fold folds a segment of this epoch.
func (r *recovery) fold(ctx context.Context, path string, m mode) error {
	s, err := readSegment(path, m)
	if err != nil {
		return err
	}
	if s.torn {
		r.found.Torn++
	}
	if s.gap {
		r.found.Gaps++
	}
	stuck := r.found.Stuck
	if err := r.foldRecords(ctx, s.records); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if r.found.Stuck > stuck {
		return r.moveAside(path)
	}
	r.done = append(r.done, path)
	return nil
}

// judge decides about a segment of another epoch. Of the one before, it knows up to
// which record it was folded: the Open that did it may have died before the
// segment was gone.
func (r *recovery) judge(path string, previous bool) error {
	if previous {
		s, err := readSegment(path, gaps)
		var damaged *DamagedError
		if err != nil && !errors.As(err, &damaged) {
			return err
		}
		if err == nil && s.last <= r.state.PreviousFolded {
			r.done = append(r.done, path)
			return nil
		}
	}
	return r.moveAside(path)
}

// foldRecords charges the records that the journal does not have.
func (r *recovery) foldRecords(ctx context.Context, records []record) error {
	for len(records) > 0 && records[0].number <= r.state.Folded {
		records = records[1:]
	}
	for group := range slices.Chunk(records, maxGroup) {
		var out []folding
		err := r.store.Update(ctx, func(tx *store.Tx) (err error) {
			out, err = foldRecords(tx, group, r.state.Epoch, time.Now())
			return err
		})
		if err != nil {
			return err
		}
		for _, f := range out {
			r.found.Charged += f.charged
			r.found.Unbilled += f.short
			r.found.Stuck += f.stuck
			r.found.StuckAmount += f.stuckAmount
		}
		r.found.Records += len(group)
		r.state.Folded = group[len(group)-1].number
	}
	return nil
}

// readState reads the log's state; it is zero when there never was a log.
func readState(st *store.Store) (state logState, err error) {
	err = st.View(func(tx *store.Tx) (err error) { state, _, err = states.Get(tx, stateKey); return err })
	return state, err
}

// nextEpoch makes all segments that there are things of the past.
func nextEpoch(ctx context.Context, st *store.Store, boot logID) (state logState, err error) {
	err = st.Update(ctx, func(tx *store.Tx) (err error) {
		if state, _, err = states.Get(tx, stateKey); err != nil {
			return err
		}
		state.Previous, state.PreviousFolded = state.Epoch, state.Folded
		state.Epoch, state.Boot = newID(), boot
		return states.Put(tx, stateKey, state)
	})
	return state, err
}

// returnLeft gives back what the leases of the Spender before have left. Those that
// can't be read stay as they are.
func (r *recovery) returnLeft(ctx context.Context) error {
	left, bad, err := leased(r.store)
	if err != nil {
		return err
	}
	now := time.Now()
	for some := range slices.Chunk(left, maxReturns) {
		failed, err := except(ctx, r.store, some, func(a identity.AccountID) identity.AccountID { return a }, func(tx *store.Tx, some []identity.AccountID) error {
			for _, a := range some {
				if err := giveBack(tx, a, 0, now, "not used when EcoLink ended without being stopped"); err != nil {
					return &accountError{a, err}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		bad = append(bad, failed...)
		r.found.Leases += len(some) - len(failed)
	}
	for _, e := range bad {
		r.found.Unreadable = append(r.found.Unreadable, e)
	}
	return nil
}

// leased lists the accounts that have leases, and those whose lease can't be read.
func leased(st *store.Store) (all []identity.AccountID, bad []*accountError, err error) {
	for from, again := identity.AccountID(0), true; again; {
		again = false
		err = st.View(func(tx *store.Tx) error {
			for rec, err := range grants.Scan(tx, from, math.MaxInt64) {
				switch {
				case err == nil:
					all = append(all, rec.Key)
				case unreadable(err) && rec.Key >= from:
					bad = append(bad, &accountError{rec.Key, err})
					from, again = rec.Key+1, true
				default:
					return err
				}
			}
			return nil
		})
	}
	return all, bad, err
}

// moveAside moves a segment out of the way.
func (r *recovery) moveAside(path string) error {
	folder := filepath.Join(r.dir, asideFolder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	old, err := segmentPaths(folder)
	if err != nil {
		return err
	}
	for ; len(old) >= maxAside; old = old[1:] {
		err = errors.Join(err, os.Remove(old[0]))
	}
	to := filepath.Join(folder, time.Now().UTC().Format("20060102T150405.000000000-")+filepath.Base(path))
	r.found.Aside = append(r.found.Aside, to)
	return errors.Join(err, os.Rename(path, to))
}
