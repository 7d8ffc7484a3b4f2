package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"ecolink/agent"
	"ecolink/agent/doctor"
	"ecolink/ledger/store"
	"ecolink/scheduler"
)

// lookAgainAfter is the time between two looks: what is in both is no work under way.
const lookAgainAfter = time.Second

// checkup examines the box. Without a box (EcoLink does not run) it only looks at
// the host and the books.
type checkup struct {
	places doctor.Places
	store  *store.Store
	box    *agent.Box
}

func newCheckup(c serveConfig, st *store.Store, box *agent.Box) checkup {
	return checkup{
		places: doctor.Places{
			DataDir: c.dataDir, RunDir: c.runDir, Namespace: containerdNamespace(c.dataDir), Bridge: c.bridge, Reserve: int64(c.reserveGB) * 1e9,
		},
		store: st, box: box,
	}
}

func (c checkup) known() (doctor.Known, error) {
	known := doctor.Known{Running: c.box != nil}
	err := c.store.View(func(tx *store.Tx) (err error) {
		h, err := scheduler.Known(tx)
		known.Workloads, known.Volumes, known.Unsettled = h.Workloads, h.Volumes, h.Unsettled
		return err
	})
	return known, err
}

// Examine lists what is not as it should be, the books included.
func (c checkup) Examine(ctx context.Context) ([]doctor.Finding, error) {
	found, err := c.look(ctx)
	if err == nil && len(found) > 0 && c.box != nil {
		select {
		case <-time.After(lookAgainAfter):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var again []doctor.Finding
		again, err = c.look(ctx)
		found = doctor.Lasting(found, again)
	}
	if err != nil {
		return nil, err
	}
	records, err := c.records(time.Now())
	return append(found, records...), err
}

func (c checkup) look(ctx context.Context) ([]doctor.Finding, error) {
	known, err := c.known() // first: what is made after it is gone from the second look
	if err != nil {
		return nil, err
	}
	found, err := doctor.Look(c.places, known)
	if err != nil || c.box == nil {
		return found, err
	}
	own, err := c.box.Examine(ctx, known)
	if err != nil {
		return append(found, doctor.Finding{Kind: doctor.Daemon, Name: "containerd", Where: []string{}, Why: err.Error(),
			Advice: fmt.Sprintf("see whether it runs, and %s if EcoLink starts it; a restart of EcoLink starts that one anew, and instances go on", filepath.Join(c.places.DataDir, "containerd", "containerd.log"))}), nil
	}
	return merge(found, own), nil
}

// merge adds findings of things that are not found yet.
func merge(found, more []doctor.Finding) []doctor.Finding {
	for _, f := range more {
		known := false
		for _, g := range found {
			known = known || g.Kind == f.Kind && g.Name == f.Name
		}
		if !known {
			found = append(found, f)
		}
	}
	return found
}

// Mend puts a finding right, if the box's records still say so.
func (c checkup) Mend(ctx context.Context, f doctor.Finding) error {
	known, err := c.known()
	if err != nil {
		return err
	}
	if f.Kind == doctor.Uploads {
		return c.mendUploads(ctx, known, f)
	}
	return c.box.Mend(ctx, known, f)
}

// alone opens the box's parts as a start of EcoLink does, which puts most things
// right, and mends the rest that losing allows. It notes in x what came of it, and
// closes the parts again.
func (c checkup) alone(ctx context.Context, cfg serveConfig, x *examination, may func(doctor.Finding) bool) error {
	before, err := c.look(ctx)
	if err != nil {
		return err
	}
	if cfg, err = usersAsDecided(cfg); err != nil { // as the last start has decided
		return err
	}
	parts, err := openParts(ctx, cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	c.box = parts.box
	found, err := c.look(ctx)
	if err != nil {
		return errors.Join(err, parts.close())
	}
	records, err := c.records(time.Now())
	if err != nil {
		return errors.Join(err, parts.close())
	}
	x.repair(ctx, append(found, records...), may, func(f doctor.Finding) error { return c.Mend(ctx, f) })
	for _, f := range before { // those that the opening has put right
		if f.Repair != "" && !f.LosesFiles && len(doctor.Lasting([]doctor.Finding{f}, found)) == 0 {
			x.Mended = append(x.Mended, f)
		}
	}
	return parts.close()
}
