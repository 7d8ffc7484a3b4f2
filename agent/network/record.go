package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"ecolink/agent/userns"
)

// The states of a namespace. Each is a folder under RunDir/records, and a
// namespace is in the one that holds its record, so that every change of state
// is one rename:
//
//	         ready          own
//	making ────────► warm ───────► owned
//	   │               │             │
//	   └───────────────┴──────┬──────┘ retire
//	                          ▼
//	                       removing ──► (no record)
//
// A record in making or removing stands for something half there: whoever
// finds one without having put it there itself takes it apart.
const (
	stateMaking   = "making"
	stateWarm     = "warm"
	stateOwned    = "owned"
	stateRemoving = "removing"
)

// record is what is known of one namespace. In making and removing all but the
// id may be missing.
type record struct {
	ID        string     `json:"id"`
	Address   netip.Addr `json:"address"`
	Gateway   netip.Addr `json:"gateway"`
	Interface string     `json:"interface"` // the host's end of the cable, a port of the bridge
	MAC       string     `json:"mac"`       // of the container's end
	// The ids of the user namespace that it belongs to; none: the host's own.
	userns.Range

	State string `json:"-"` // the folder that the record lies in
	Owner string `json:"-"` // in the file's name, as the owner comes by a rename
}

// file is the record's path below the records folder.
func (r record) file() string {
	if r.State == stateOwned {
		return filepath.Join(stateOwned, r.ID+"@"+url.PathEscape(r.Owner))
	}
	return filepath.Join(r.State, r.ID)
}

// records keeps the records of one network. Only the holder of the RunDir's
// lock may use it; calls for different ids may run at once. It does not sync:
// what it describes does not survive a power cut either.
type records struct{ dir string }

func (s records) prepare() error {
	for _, state := range []string{stateMaking, stateWarm, stateOwned, stateRemoving} {
		if err := os.MkdirAll(filepath.Join(s.dir, state), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// begin notes that the namespace id is about to be made.
func (s records) begin(id string) (record, error) {
	rec := record{ID: id, State: stateMaking}
	f, err := os.OpenFile(filepath.Join(s.dir, rec.file()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return rec, err
	}
	return rec, f.Close()
}

// ready notes that the namespace is complete. The text is written while the
// record still counts as half there, so no reader sees a torn one.
func (s records) ready(rec record) (record, error) {
	text, err := json.Marshal(rec)
	if err != nil {
		return rec, err
	}
	if err := os.WriteFile(filepath.Join(s.dir, rec.file()), text, 0o600); err != nil {
		return rec, err
	}
	return s.move(rec, stateWarm, "")
}

// own gives the namespace to its owner.
func (s records) own(rec record, owner string) (record, error) {
	return s.move(rec, stateOwned, owner)
}

// retire notes that the namespace is about to be taken apart. A record that
// somebody deleted is written again, so that a crash while taking apart is
// still found.
func (s records) retire(rec record) (record, error) {
	if rec.State == stateRemoving {
		return rec, nil
	}
	moved, err := s.move(rec, stateRemoving, "")
	if errors.Is(err, fs.ErrNotExist) {
		moved = rec
		moved.State, moved.Owner = stateRemoving, ""
		text, marshalErr := json.Marshal(moved)
		if marshalErr != nil {
			return rec, marshalErr
		}
		err = os.WriteFile(filepath.Join(s.dir, moved.file()), text, 0o600)
	}
	return moved, err
}

// forget drops the record of a namespace that is gone.
func (s records) forget(rec record) error {
	err := os.Remove(filepath.Join(s.dir, rec.file()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s records) move(rec record, state, owner string) (record, error) {
	moved := rec
	moved.State, moved.Owner = state, owner
	return moved, os.Rename(filepath.Join(s.dir, rec.file()), filepath.Join(s.dir, moved.file()))
}

// load reads every record. One that cannot be read is answered in the state
// removing with nothing but its id: it cannot be used, only taken apart.
func (s records) load() ([]record, error) {
	var all []record
	// Removing comes first: read puts unreadable ones there, and each is
	// answered once.
	for _, state := range []string{stateRemoving, stateMaking, stateWarm, stateOwned} {
		entries, err := os.ReadDir(filepath.Join(s.dir, state))
		if errors.Is(err, fs.ErrNotExist) {
			continue // before prepare
		}
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			rec, err := s.read(state, entry.Name())
			if err != nil {
				return nil, fmt.Errorf("record %s/%s: %w", state, entry.Name(), err)
			}
			all = append(all, rec)
		}
	}
	return all, nil
}

func (s records) read(state, name string) (record, error) {
	id, escaped, _ := strings.Cut(name, "@")
	rec := record{ID: id, State: state}
	text, err := os.ReadFile(filepath.Join(s.dir, state, name))
	if err != nil {
		return rec, err
	}
	parsed := rec
	bad := json.Unmarshal(text, &parsed) != nil || parsed.ID != id
	var ownerErr error
	if state == stateOwned {
		parsed.Owner, ownerErr = url.PathUnescape(escaped)
	}
	switch state {
	case stateWarm, stateOwned:
		_, portErr := parsed.port()
		if !bad && ownerErr == nil && portErr == nil && (parsed.First == 0 || parsed.Valid()) && (state == stateWarm || parsed.Owner != "") {
			return parsed, nil
		}
		rec.State = stateRemoving
		return rec, os.Rename(filepath.Join(s.dir, state, name), filepath.Join(s.dir, rec.file()))
	default: // half there: whatever could be read helps, nothing is needed
		if bad {
			return rec, nil
		}
		return parsed, nil
	}
}
