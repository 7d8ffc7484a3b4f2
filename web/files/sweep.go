package files

import (
	"context"
	"errors"
	"time"

	"ecolink/agent/volume/files"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
)

// uploading are the volumes that may have unfinished uploads: the ones that are
// to be looked at, so that not every volume is mounted every hour.
var uploading = store.NewIntCollection[scheduler.DriveID, mark]("uploading")

type mark struct {
	Account identity.AccountID `json:"account"`
	Since   time.Time          `json:"since"`
}

// mark notes that a volume may have unfinished uploads. It comes after one has
// begun: before, a sweep between the two could take the mark away.
func (s *Server) mark(ctx context.Context, account identity.AccountID, id scheduler.DriveID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marked[id] > 0 {
		s.marked[id]++
		return nil
	}
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		return uploading.Put(tx, id, mark{Account: account, Since: time.Now().UTC()})
	})
	if err == nil {
		s.marked[id] = 1
	}
	return err
}

// Run sweeps uploads that stand still away, soon and then every hour, until ctx
// ends.
func (s *Server) Run(ctx context.Context) error {
	next := time.NewTimer(firstSweep)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		if err := s.Sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "unfinished uploads could not be swept away; it is tried again", "err", err)
		}
		next.Reset(sweepEvery)
	}
}

// Sweep looks once at every volume that may have unfinished uploads.
func (s *Server) Sweep(ctx context.Context, now time.Time) error {
	marks := map[scheduler.DriveID]mark{}
	err := s.store.View(func(tx *store.Tx) error {
		clear(marks)
		for r, err := range uploading.All(tx) {
			if err != nil {
				return err
			}
			marks[r.Key] = r.Value
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for id, m := range marks {
		if err := s.sweep(ctx, id, m, now); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Server) sweep(ctx context.Context, id scheduler.DriveID, m mark, now time.Time) error {
	open, err := s.volumes.OpenVolume(ctx, m.Account, id)
	var problem *scheduler.Problem
	if errors.As(err, &problem) {
		if problem.Kind == scheduler.NotFound {
			return s.unmark(ctx, id, func() (bool, error) { return true, nil })
		}
		return nil // suspended or busy: the next time
	}
	if err != nil {
		return err
	}
	defer s.close(open, id)
	return s.unmark(ctx, id, func() (bool, error) {
		left, err := files.In(open.Root).Sweep(ctx, now)
		return left == 0, err
	})
}

// unmark takes a mark away when clean says that nothing is left, unless an upload
// has begun meanwhile. Nobody waits for clean: a volume's own people can make it as
// long as they like.
func (s *Server) unmark(ctx context.Context, id scheduler.DriveID, clean func() (bool, error)) error {
	s.mu.Lock()
	before := s.marked[id]
	s.mu.Unlock()
	if nothing, err := clean(); err != nil || !nothing {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marked[id] != before {
		return nil
	}
	delete(s.marked, id)
	return s.store.Update(ctx, func(tx *store.Tx) error { return uploading.Delete(tx, id) })
}
