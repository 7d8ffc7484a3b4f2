package console

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ecolink/ledger/drives"
	"ecolink/scheduler"
	"ecolink/web"
)

// suggestedPath is where a drive is mounted when nobody has thought of a path.
const suggestedPath = "/workspace"

// storageChoice is a drive or shared filesystem that a launch can mount.
type storageChoice struct {
	drives.Drive
	Chosen bool
	Path   string // as it is suggested, or was typed
	Blocks string // why it can't be chosen now; "" when it can
}

// The names of the form's fields for a drive.
func mountField(id scheduler.DriveID) string { return fmt.Sprintf("mount-%d", id) }
func pathField(id scheduler.DriveID) string  { return fmt.Sprintf("mount-path-%d", id) }

// storageChoices lists the account's storage for the launch form, as it was
// filled in.
func (c *console) storageChoices(v *visit, form url.Values) (out []storageChoice, err error) {
	for _, kind := range []drives.Kind{drives.CloudDrive, drives.SharedFilesystem} {
		all, err := c.Scheduler.Drives(v.account.ID, kind, 0, maxDriveRows)
		if err != nil {
			return nil, err
		}
		for _, d := range all {
			if d.State == drives.Failed || d.State == drives.Deleting {
				continue
			}
			s := storageChoice{Drive: d, Path: form.Get(pathField(d.ID)), Blocks: blocks(d)}
			s.Chosen = form.Get(mountField(d.ID)) != "" && s.Blocks == ""
			if s.Path == "" {
				s.Path = d.MountPath
			}
			if s.Path == "" {
				s.Path = suggestedPath + "/" + d.Name
			}
			out = append(out, s)
		}
	}
	return out, nil
}

// blocks says why a drive can't be mounted by a launch now.
func blocks(d drives.Drive) string {
	switch {
	case d.State == drives.Attached && d.Kind == drives.CloudDrive:
		return "in use"
	case d.State != drives.Available && d.State != drives.Attached:
		return string(d.State)
	case d.Unpaid:
		return "no longer paid for"
	}
	return ""
}

// readMounts reads what is to be mounted where. Which of them are drives and which
// filesystems is known by the account's own list.
func (c *console) readMounts(v *visit, form url.Values, req *scheduler.LaunchRequest) error {
	for name := range form {
		digits, ok := strings.CutPrefix(name, "mount-")
		if !ok || form.Get(name) == "" {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			continue // the path of one
		}
		d, err := c.Scheduler.Drive(v.account.ID, "", scheduler.DriveID(n))
		if err != nil {
			return err
		}
		m := scheduler.DriveMount{Drive: d.ID, Path: strings.TrimSpace(form.Get(pathField(d.ID)))}
		if d.Kind == drives.SharedFilesystem {
			req.Filesystems = append(req.Filesystems, m)
		} else {
			req.Drives = append(req.Drives, m)
		}
	}
	// In an order of their own, so that the same form is the same request.
	for _, mounts := range [][]scheduler.DriveMount{req.Drives, req.Filesystems} {
		slices.SortFunc(mounts, func(a, b scheduler.DriveMount) int { return cmp.Compare(a.Drive, b.Drive) })
	}
	return nil
}

func mountWords(s storageChoice) string {
	text := ""
	if s.Kind == drives.SharedFilesystem {
		text = ", shared"
	}
	if s.Blocks != "" {
		text += ", " + s.Blocks
	}
	return text
}

// mountProblem is a failure about any drive, as one about the form's drives.
func mountProblem(f *web.Failure) *web.Failure {
	if f.Param == nil {
		return f
	}
	if field, _, _ := strings.Cut(*f.Param, "["); field == "drives" || field == "shared_filesystems" {
		all, drives := *f, "drives"
		all.Param = &drives
		return &all
	}
	return f
}

// mountLine is a drive or filesystem that an instance has, or had.
type mountLine struct{ What, Name, Link, Path string }

func (c *console) mountsOf(v *visit, i scheduler.Instance) (out []mountLine) {
	for _, list := range []struct {
		what   string
		mounts []scheduler.DriveMount
	}{{"Drive", i.Drives}, {"Shared filesystem", i.Filesystems}} {
		for _, m := range list.mounts {
			line := mountLine{What: list.what, Name: fmt.Sprintf("number %d, deleted since", m.Drive), Link: "/storage", Path: m.Path}
			if d, err := c.Scheduler.Drive(v.account.ID, "", m.Drive); err == nil {
				line.Name, line.Link = d.Name, drivePath(d)
			}
			out = append(out, line)
		}
	}
	return out
}
