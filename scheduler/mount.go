package scheduler

import (
	"errors"
	"fmt"
	"time"

	"ecolink/agent"
	"ecolink/ledger/drives"
	"ecolink/ledger/store"
)

// maxMounts is how many drives and filesystems an instance has at most.
const maxMounts = 8

// DriveMount is a drive or a shared filesystem, and where an instance has it.
type DriveMount struct {
	Drive DriveID `json:"drive"`
	Path  string  `json:"path"`
}

// wanted is a mount that a launch asks for.
type wanted struct {
	DriveMount
	kind  drives.Kind
	field string // "drives[1]"
}

func (r LaunchRequest) mounts() (out []wanted) {
	for n, m := range r.Drives {
		out = append(out, wanted{m, drives.CloudDrive, fmt.Sprintf("drives[%d]", n)})
	}
	for n, m := range r.Filesystems {
		out = append(out, wanted{m, drives.SharedFilesystem, fmt.Sprintf("shared_filesystems[%d]", n)})
	}
	return out
}

// checkMounts refuses what can never be mounted.
func checkMounts(r LaunchRequest) error {
	all := r.mounts()
	if len(all) > maxMounts {
		field := "drives"
		if len(r.Drives) == 0 {
			field = "shared_filesystems"
		}
		return &Problem{Kind: Unprocessable, Field: field, Message: fmt.Sprintf("an instance has at most %d drives and shared filesystems together, and these are %d: leave some out", maxMounts, len(all))}
	}
	for n, m := range all {
		for _, other := range all[:n] {
			if other.Drive == m.Drive {
				return &Problem{Kind: Unprocessable, Field: m.field + ".id", Message: fmt.Sprintf("%d stands in %s already: name it once", m.Drive, other.field)}
			}
		}
		if m.Path == "" && m.kind == drives.SharedFilesystem {
			continue
		}
		if err := drives.CheckPathOf(m.field+".path", m.Path); err != nil {
			return driveProblem(err)
		}
	}
	return nil
}

// mountable reads the drives that a launch asks for, and refuses what can't be
// attached now. It gives the mounts with their paths, and writes nothing.
func mountable(tx *store.Tx, r LaunchRequest) (ds, fs []DriveMount, err error) {
	var seen []wanted
	for _, m := range r.mounts() {
		d, err := drives.Attachable(tx, drives.Use{Account: r.Account, Kind: m.kind, Drive: m.Drive, Path: m.Path})
		if err != nil {
			return nil, nil, mountProblem(m, err)
		}
		if m.Path == "" {
			m.Path = d.MountPath
		}
		for _, other := range seen {
			if drives.Overlap(m.Path, other.Path) {
				return nil, nil, &Problem{Kind: Unprocessable, Field: m.field + ".path", Message: fmt.Sprintf(
					"%.80s and %.80s of %s are the same or lie in each other, and one would hide the other: name folders side by side", m.Path, other.Path, other.field)}
			}
		}
		seen = append(seen, m)
		if m.kind == drives.CloudDrive {
			ds = append(ds, m.DriveMount)
		} else {
			fs = append(fs, m.DriveMount)
		}
	}
	return ds, fs, nil
}

// mountProblem names the field of the launch. A drive that is not there is a fault
// of the request, whose own path exists.
func mountProblem(m wanted, err error) error {
	err = driveProblem(err)
	var p *Problem
	if errors.As(err, &p) {
		if p.Kind == NotFound {
			p.Kind = Unprocessable
		}
		if p.Field == "path" {
			p.Field = m.field + ".path"
		} else {
			p.Field = m.field + ".id"
		}
	}
	return err
}

// attach gives the instance its drives, in the transaction that launches it.
func (i Instance) attach(tx *store.Tx, now time.Time) error {
	for _, part := range []struct {
		kind   drives.Kind
		mounts []DriveMount
	}{{drives.CloudDrive, i.Drives}, {drives.SharedFilesystem, i.Filesystems}} {
		for _, m := range part.mounts {
			use := drives.Use{Account: i.Account, Kind: part.kind, Drive: m.Drive, Path: m.Path,
				User: i.Resource(), Name: fmt.Sprintf("instance %d (%s)", i.ID, i.Name)}
			if _, err := drives.Attach(tx, use, now); err != nil {
				return driveProblem(err)
			}
		}
	}
	return nil
}

// letGo takes its drives from an instance of which nothing is on the machine.
func (i Instance) letGo(tx *store.Tx, now time.Time) error {
	for _, mounts := range [][]DriveMount{i.Drives, i.Filesystems} {
		for _, m := range mounts {
			if err := drives.LetGo(tx, m.Drive, i.Resource(), now); err != nil {
				return err
			}
		}
	}
	return nil
}

// mounts are what its container has mounted.
func (i Instance) mounts() (out []agent.Mount) {
	for _, m := range i.Drives {
		out = append(out, agent.Mount{Volume: drives.Drive{ID: m.Drive, Kind: drives.CloudDrive}.Volume(), Path: m.Path})
	}
	for _, m := range i.Filesystems {
		out = append(out, agent.Mount{Volume: drives.Drive{ID: m.Drive, Kind: drives.SharedFilesystem}.Volume(), Path: m.Path})
	}
	return out
}
