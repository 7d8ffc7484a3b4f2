package scheduler

import (
	"context"
	"fmt"

	"ecolink/agent"
	"ecolink/ledger/drives"
	"ecolink/ledger/store"
)

// poolSpace is what the machine has for drives, and which of them it may not have
// made yet. Each is counted once, whenever the machine was asked: what it has of
// them it says itself, and the rest is still to be made.
type poolSpace struct {
	agent.VolumeSpace
	working []DriveID
}

// poolSpace asks for it. Until release is called nobody else is promised anything,
// so that none is missing in it: those with work are read before the machine is asked,
// and one that is done by then is in the machine's answer.
func (s *Scheduler) poolSpace(ctx context.Context) (p poolSpace, release func(), err error) {
	select {
	case s.promising <- struct{}{}:
	case <-ctx.Done():
		return p, nil, ctx.Err()
	}
	release = func() { <-s.promising }
	err = s.store.View(func(tx *store.Tx) (err error) { p.working, err = drives.Working(tx); return err })
	if err == nil {
		p.VolumeSpace, err = s.machine.VolumeSpace(ctx)
	}
	if err != nil {
		release()
		return p, nil, fmt.Errorf("how much room there is for drives: %w", err)
	}
	return p, release, nil
}

// room works out what is left in the end, by the records as they are now.
func (p poolSpace) room(tx *store.Tx) (room, error) {
	unmade, err := drives.Unmade(tx, p.working, p.Volumes)
	return room{
		free:  max(0, p.FreeBytes-unmade) / drives.BytesPerGB,
		total: max(0, p.TotalBytes-p.ReserveBytes) / drives.BytesPerGB,
	}, err
}

// room is what is left, in GB, when all that was promised is made, and what there is.
type room struct{ free, total int64 }

// forGB refuses what the pool has no room for.
func (r room) forGB(gb int64) error {
	if gb <= r.free {
		return nil
	}
	kind := Conflict
	if gb > r.total {
		kind = Unprocessable
	}
	return &Problem{Kind: kind, Field: "size_gb", Message: fmt.Sprintf(
		"the storage pool of this box has %d GB free of %d, and this needs %d: ask for less, or delete what is no longer needed", r.free, r.total, gb)}
}
