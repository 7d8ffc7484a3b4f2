package network

import (
	"context"
	"errors"
	"io/fs"
	"os"
)

// recover compares the records with what the kernel has, before anything else
// runs. What is whole is kept, the rest taken apart; what no record knows (it
// cannot come from us, as records are written first) but bears our mark goes
// too. What will not go keeps its record, so that its address stays taken, and
// is tried again now and then.
func (n *Network) recover(ctx context.Context, all []record) error {
	var doomed []record
	known := make(map[string]bool)
	for _, rec := range all {
		if !n.keep(rec) {
			doomed = append(doomed, rec)
			continue
		}
		if free := n.haveRange(rec); !free && rec.State != stateOwned {
			doomed = append(doomed, rec) // no container has it yet
			continue
		}
		known[rec.ID] = true
		if err := n.filter.remember(rec); err != nil {
			return err
		}
		if rec.State == stateOwned {
			n.owned[rec.Owner] = rec
		} else {
			n.warm <- rec
		}
	}
	left, err := n.removeAll(ctx, doomed)
	if err != nil {
		n.log.Error("could not remove all that an earlier process left half made", "err", err)
	}
	for _, rec := range left {
		known[rec.ID] = true
		n.haveRange(rec)
		n.stuck[rec.ID] = rec
	}
	if err := n.sweep(known); err != nil {
		return err
	}
	if len(all) > 0 {
		n.log.Info("network recovered", "owned", len(n.owned), "warm", len(n.warm), "removed", len(doomed)-len(left))
	}
	return nil
}

// keep decides whether the namespace of a record is used on.
func (n *Network) keep(rec record) bool {
	alive := namespaceAlive(n.path(rec.ID))
	port, err := rec.port()
	if err != nil {
		return false
	}
	switch rec.State {
	case stateWarm:
		// The container would start with whatever is wrong here: if in
		// doubt, make another.
		return n.alive(rec) && len(n.warm) < n.cfg.Warm && n.bridge.attach(rec.ID, port) == nil
	case stateOwned:
		if _, twice := n.owned[rec.Owner]; twice {
			return false
		}
		if !alive {
			n.log.Warn("an owner's network namespace is gone; it gets another when it asks", "owner", rec.Owner, "namespace", rec.ID)
			return false
		}
		// The container runs: put right what can be.
		if err := n.bridge.attach(rec.ID, port); err != nil {
			n.log.Error("an owner's network is cut off; release it and acquire another", "owner", rec.Owner, "err", err)
		}
		return true
	default:
		return false
	}
}

// sweep removes what bears our mark and is in no record.
func (n *Network) sweep(known map[string]bool) error {
	entries, err := os.ReadDir(n.path(""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if known[entry.Name()] {
			continue
		}
		if err := removeNamespace(n.path(entry.Name())); err != nil {
			return err
		}
		n.log.Warn("removed a network namespace without a record", "namespace", entry.Name())
	}
	if err := n.sweepUsers(known); err != nil {
		return err
	}
	removed, foreign, err := n.bridge.sweep(known)
	if err != nil {
		return err
	}
	if len(removed) > 0 {
		n.log.Warn("removed bridge ports without a record", "ports", removed)
	}
	if len(foreign) > 0 {
		n.log.Warn("the bridge has ports that this network did not make; containers are not isolated from them", "bridge", n.bridge.name, "ports", foreign)
	}
	freed, err := n.plugins.freeLeases(known)
	if err != nil {
		return err
	}
	if freed > 0 {
		n.log.Warn("freed addresses without a record", "addresses", freed)
	}
	return nil
}
