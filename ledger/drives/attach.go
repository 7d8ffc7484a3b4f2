package drives

import (
	"slices"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Use is who wants to attach what, and where it is mounted there.
type Use struct {
	Account identity.AccountID
	Kind    Kind
	Drive   ID
	User    string // "gpu-instance/7"
	Name    string // of the user, in a sentence: "instance 7 (trainer)"
	Path    string // "": where the filesystem is by default
}

// Attach gives a drive to a user: a drive that has none, a filesystem to one more.
// It is the one place that decides so. The path must have been checked.
func Attach(tx *store.Tx, u Use, now time.Time) (Drive, error) {
	d, err := Attachable(tx, u)
	if err != nil {
		return d, err
	}
	if u.Path == "" {
		u.Path = d.MountPath
	}
	d.Attachments = append(d.Attachments, Attachment{User: u.User, Name: u.Name, Path: u.Path, At: now.UTC()})
	if d.State == Attached {
		return d, put(tx, d)
	}
	d.Notice = ""
	return apply(tx, d, attach, "attached to "+u.Name, now)
}

// Attachable reads the drive, and refuses what Attach would refuse.
func Attachable(tx *store.Tx, u Use) (Drive, error) {
	d, err := Get(tx, u.Account, u.Kind, u.Drive)
	if err != nil {
		return d, err
	}
	if err := d.usable(); err != nil {
		return d, err
	}
	switch {
	case d.UsedBy(u.User):
		return d, conflict("", "%s is attached to it already: name it once", d)
	case d.Unpaid:
		return d, conflict("", "%s is in use and no longer paid for: add credit first", d)
	case d.Kind == CloudDrive && len(d.Attachments) > 0:
		return d, conflict("", "%s is attached to %s: end that first, or use a shared filesystem", d, d.Attachments[0].Name)
	case len(d.Attachments) >= maxUsers:
		return d, conflict("", "%s has %d users, which is the most: end one of them first", d, maxUsers)
	case u.Path == "" && d.MountPath == "":
		return d, invalid("path", "say where %s is to be mounted, such as /workspace", d)
	}
	return d, nil
}

// LetGo takes a drive from a user that does not use it any more, and whose mounts
// are gone. That it does not have it is fine: it is called again after a crash.
func LetGo(tx *store.Tx, id ID, user string, now time.Time) error {
	d, ok, err := all.Get(tx, id)
	if err != nil || !ok || !d.UsedBy(user) {
		return err
	}
	n := slices.IndexFunc(d.Attachments, func(a Attachment) bool { return a.User == user })
	name := d.Attachments[n].Name
	d.Attachments = slices.Delete(slices.Clone(d.Attachments), n, n+1)
	if len(d.Attachments) > 0 {
		return put(tx, d)
	}
	_, err = apply(tx, d, detach, name+" has let go", now)
	return err
}

// Openable reads a drive whose files are to be opened, and refuses one that can't
// be used now.
func Openable(tx *store.Tx, a identity.AccountID, id ID) (Drive, error) {
	d, err := Get(tx, a, "", id)
	if err != nil {
		return d, err
	}
	return d, d.usable()
}
