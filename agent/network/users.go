package network

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"ecolink/agent/userns"
)

// User namespaces are made, kept and removed with the network namespaces that
// belong to them, one each.

// layerSuffix ends the names of those that only a container's layer has.
const layerSuffix = ".layer"

func (n *Network) userDir() string { return filepath.Join(n.cfg.RunDir, "userns") }

// userFiles is where the user namespace of id is, if there is one.
func (n *Network) userFiles(id string) userns.Mapping {
	path := filepath.Join(n.userDir(), id)
	return userns.Mapping{Path: path, Layer: path + layerSuffix}
}

// mapping is the user namespace of a record; the zero Mapping without one.
func (n *Network) mapping(rec record) userns.Mapping {
	if rec.First == 0 {
		return userns.Mapping{}
	}
	m := n.userFiles(rec.ID)
	m.Range = rec.Range
	return m
}

// alive reports whether a container could begin in the record's namespaces: they are
// there, and of the kind that is wanted now.
func (n *Network) alive(rec record) bool {
	if !namespaceAlive(n.path(rec.ID)) || (rec.First != 0) != n.cfg.UserNamespaces {
		return false
	}
	return rec.First == 0 || n.mapping(rec).Alive()
}

// takeRange gives a range that nobody has, of this network or of another box's on
// this machine. It begins anywhere: should something of a container have been
// overlooked, its ids are unlikely to be the next one's.
func (n *Network) takeRange(id string) (userns.Range, error) {
	at := rand.IntN(userns.MaxRanges)
	for k := range userns.MaxRanges {
		r := userns.RangeAt((at + k) % userns.MaxRanges)
		if !n.reserve(r, id) {
			continue
		}
		ok, err := n.takeFromAll(r, id)
		if ok && err == nil {
			return r, nil
		}
		n.unreserve(r, id)
		if err != nil {
			return userns.Range{}, err
		}
	}
	return userns.Range{}, fmt.Errorf("%w: all %d ranges of ids are taken", ErrExhausted, userns.MaxRanges)
}

// reserve keeps the others of this network off a range, if none has it.
func (n *Network) reserve(r userns.Range, id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, has := n.ranges[r]; has {
		return false
	}
	n.ranges[r] = id
	return true
}

func (n *Network) unreserve(r userns.Range, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ranges[r] == id {
		delete(n.ranges, r)
	}
}

// haveRange notes whose a range is, and reports whether it is free for that. What runs
// keeps it in any case, even if another box has given it away because there was no
// note of it.
func (n *Network) haveRange(rec record) (free bool) {
	if rec.First == 0 {
		return true
	}
	n.reserve(rec.Range, rec.ID)
	ok, err := n.takeFromAll(rec.Range, rec.ID)
	if rec.State == stateOwned && (err != nil || !ok) {
		n.log.Warn("a container may have the ids of one of another EcoLink on this machine until it starts anew", "first_id", rec.First, "owner", rec.Owner, "err", err)
	}
	return err == nil && ok
}

// freeRange lets others have a range.
func (n *Network) freeRange(rec record) {
	if rec.First == 0 {
		return
	}
	n.unreserve(rec.Range, rec.ID)
	if err := (rangeLinks{rangesDir}).free(rec.Range, n.userFiles(rec.ID).Path); err != nil {
		n.log.Warn("the note of a range of ids is left; it counts for nothing any more", "first_id", rec.First, "err", err)
	}
}

// sweepUsers removes user namespaces that are in no record.
func (n *Network) sweepUsers(known map[string]bool) error {
	entries, err := os.ReadDir(n.userDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		id := strings.TrimSuffix(entry.Name(), layerSuffix)
		if known[id] {
			continue
		}
		if err := n.userFiles(id).Remove(); err != nil {
			return err
		}
		n.log.Warn("removed a user namespace without a record", "namespace", id)
	}
	if err := (rangeLinks{rangesDir}).sweep(); err != nil {
		n.log.Warn("notes of ranges of ids that count for nothing are left; the next start tries again", "err", err)
	}
	return nil
}
