package agent

import (
	"context"
	"errors"

	"ecolink/agent/volume"
)

// UseScratch has the box keep what workloads write outside of their mounts in
// sized file systems of their own. It is called before the box is used; without
// it, workloads with a limit of scratch can't run.
func (b *Box) UseScratch(s *volume.Scratch) { b.scratch = s }

// layer gives the folder for what the workload writes; "" for no limit.
func (b *Box) layer(ctx context.Context, w Workload) (string, error) {
	if w.Resources.ScratchBytes <= 0 {
		return "", nil
	}
	if b.scratch == nil {
		return "", errors.New("this box keeps no scratch disks: launch without a limit of scratch")
	}
	return b.scratch.Acquire(ctx, w.ID, w.Resources.ScratchBytes)
}

func (b *Box) releaseScratch(ctx context.Context, id string) error {
	if b.scratch == nil {
		return nil
	}
	return b.scratch.Release(ctx, id)
}

func (b *Box) scratchOwners() ([]string, error) {
	if b.scratch == nil {
		return nil, nil
	}
	return b.scratch.Owners()
}
