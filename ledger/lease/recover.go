package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	// Unknown is how many records name a lease that this database does not have:
	// it was restored from a backup. Nobody was charged for them.
	Unknown       int
	UnknownAmount ledger.MicroUSD
	// Torn and Gaps are how many segments end in a record that is not whole, and
	// have something else in between. Gaps come from power cuts only.
	Torn, Gaps int
	// Aside are segments of other databases, or of this one before a backup was
	// restored. Nobody was charged for what they have.
	Aside []string
}

const asideFolder = "aside"

// recoverLog folds what the log has beyond the journal, gives back all leases,
// begins a new epoch and removes the log.
func recoverLog(ctx context.Context, st *store.Store, dir string, boot logID) (state logState, found Recovered, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return state, found, err
	}
	if state, err = readState(ctx, st); err != nil {
		return state, found, err
	}
	paths, err := segmentPaths(dir)
	if err != nil {
		return state, found, err
	}
	var done []string // can be removed once a new epoch has begun
	for n, path := range paths {
		s, err := readSegment(path, boot, n == len(paths)-1)
		ours := s.id == state.ID && s.epoch == state.Epoch
		var damaged *DamagedError
		if err != nil && (ours || s.header == header{} || !errors.As(err, &damaged)) {
			return state, found, err
		}
		switch {
		case s.empty:
			found.Torn++
			done = append(done, path)
		case err == nil && s.id == state.ID && s.last <= state.Folded:
			done = append(done, path)
		case !ours:
			if err := setAside(dir, path, &found); err != nil {
				return state, found, err
			}
		default:
			if err := foldSegment(ctx, st, s, &state, &found); err != nil {
				return state, found, err
			}
			done = append(done, path)
		}
	}
	if found.Leases, err = returnLeft(ctx, st); err != nil {
		return state, found, err
	}
	if state, err = nextEpoch(ctx, st); err != nil {
		return state, found, err
	}
	for _, path := range done {
		if err := os.Remove(path); err != nil {
			return state, found, err
		}
	}
	return state, found, nil
}

// readState reads the log's state, and makes it when the database has none.
func readState(ctx context.Context, st *store.Store) (state logState, err error) {
	err = st.Update(ctx, func(tx *store.Tx) (err error) {
		var ok bool
		if state, ok, err = states.Get(tx, stateKey); err != nil || ok {
			return err
		}
		state = logState{ID: newID(), Epoch: newID()}
		return states.Put(tx, stateKey, state)
	})
	return state, err
}

// nextEpoch makes all segments that there are things of the past.
func nextEpoch(ctx context.Context, st *store.Store) (state logState, err error) {
	err = st.Update(ctx, func(tx *store.Tx) (err error) {
		if state, _, err = states.Get(tx, stateKey); err != nil {
			return err
		}
		state.Epoch = newID()
		return states.Put(tx, stateKey, state)
	})
	return state, err
}

// foldSegment charges the records that the journal does not have.
func foldSegment(ctx context.Context, st *store.Store, s segment, state *logState, found *Recovered) error {
	if s.torn {
		found.Torn++
	}
	if s.gap {
		found.Gaps++
	}
	records := s.records
	for len(records) > 0 && records[0].number <= state.Folded {
		records = records[1:]
	}
	for len(records) > 0 {
		group := records[:min(len(records), maxGroup)]
		sorted, last := byAccount(group), group[len(group)-1].number
		var out []folding
		err := st.Update(ctx, func(tx *store.Tx) (err error) {
			out, err = foldRecords(tx, sorted, group[0].number, last, state.Epoch, time.Now())
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
		for _, f := range out {
			found.Charged += f.charged
			found.Unbilled += f.short
			found.Unknown += f.strange
			found.UnknownAmount += f.estrange
		}
		found.Records += len(group)
		state.Folded, records = last, records[len(group):]
	}
	return nil
}

// returnLeft gives back what the leases of the Spender before have left.
func returnLeft(ctx context.Context, st *store.Store) (total int, err error) {
	now := time.Now()
	for {
		n := 0
		err := st.Update(ctx, func(tx *store.Tx) error {
			var left []identity.AccountID
			for rec, err := range grants.All(tx) {
				if err != nil {
					return err
				}
				if left = append(left, rec.Key); len(left) == maxReturns {
					break
				}
			}
			n = len(left)
			for _, a := range left {
				if err := giveBack(tx, a, now, "not used when EcoLink ended without being stopped"); err != nil {
					return err
				}
			}
			return nil
		})
		if total += n; err != nil || n == 0 {
			return total, err
		}
	}
}

// setAside moves a segment that is not this database's out of the way.
func setAside(dir, path string, found *Recovered) error {
	folder := filepath.Join(dir, asideFolder)
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
	found.Aside = append(found.Aside, to)
	return errors.Join(err, os.Rename(path, to))
}
