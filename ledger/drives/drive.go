package drives

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// ID numbers drives and shared filesystems together, from 1.
type ID int64

// Kind tells a drive from a shared filesystem.
type Kind string

// The kinds.
const (
	CloudDrive       Kind = "drive"             // one user at a time
	SharedFilesystem Kind = "shared-filesystem" // many at once
)

// words are what a kind is called in a sentence.
func (k Kind) words() string { return strings.ReplaceAll(string(k), "-", " ") }

func (k Kind) item() price.Item {
	if k == SharedFilesystem {
		return price.SharedFilesystem
	}
	return price.Drive
}

func (k Kind) known() bool { return k == CloudDrive || k == SharedFilesystem }

// Region is where drives are until boxes federate.
const Region = "local"

// Drive is the record of a cloud drive or a shared filesystem.
type Drive struct {
	ID        ID                 `json:"id"`
	Account   identity.AccountID `json:"account"`
	Kind      Kind               `json:"kind"`
	Name      string             `json:"name"` // unique in the account among what is neither deleted nor failed
	Region    string             `json:"region"`
	MountPath string             `json:"mount_path,omitempty"` // of a filesystem, unless a launch names another
	CreatedBy identity.UserID    `json:"created_by"`
	CreatedAt time.Time          `json:"created_at"`

	// GB is the size that is wanted, MadeGB what the machine has: 0 until it is made.
	GB      int64   `json:"gb"`
	MadeGB  int64   `json:"made_gb,omitempty"`
	CloneOf *Source `json:"clone_of,omitempty"` // what it begins with
	// Tried is for how long its present work has been tried in vain. The time in
	// which nobody tried does not count: the box was down, or busy with others.
	Tried time.Duration `json:"tried,omitempty"`

	State       State        `json:"state"`
	History     []Change     `json:"history"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Snapshots   []Snapshot   `json:"snapshots,omitempty"`
	RestoreFrom string       `json:"restore_from,omitempty"` // the snapshot that it is to be put back to

	// Unpaid: nobody pays for it now. It is suspended as soon as nobody uses it.
	Unpaid bool `json:"unpaid,omitempty"`
	// Problem is what went wrong last, while it is tried again, or for good.
	Problem string `json:"problem,omitempty"`
	// Notice is what is to be known about it although nothing went wrong.
	Notice string `json:"notice,omitempty"`
}

// Source is what a clone begins with: a snapshot of a drive or, with no name,
// what is in the drive when it is cloned.
type Source struct {
	Drive    ID     `json:"drive"`
	Snapshot string `json:"snapshot,omitempty"`
	GB       int64  `json:"gb"` // that it has
}

// Change is one step of a drive's history.
type Change struct {
	State  State     `json:"state"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// Attachment says who uses a drive, and where it is mounted there.
type Attachment struct {
	User string    `json:"user"` // "gpu-instance/7"
	Name string    `json:"name"` // of the user, in a sentence: "instance 7 (trainer)"
	Path string    `json:"path"`
	At   time.Time `json:"at"`
}

// Volume is the name that the drive has on the machine.
func (d Drive) Volume() string { return fmt.Sprintf("%s-%d", d.Kind, d.ID) }

// Resource is the name that the drive has in the ledger.
func (d Drive) Resource() string { return fmt.Sprintf("%s/%d", d.Kind, d.ID) }

// String names it in a sentence.
func (d Drive) String() string { return fmt.Sprintf("%s %d (%s)", d.Kind.words(), d.ID, d.Name) }

// UsedBy tells whether a user has it attached.
func (d Drive) UsedBy(user string) bool {
	return slices.ContainsFunc(d.Attachments, func(a Attachment) bool { return a.User == user })
}

// Live tells whether the machine has it, or is to have it.
func (d Drive) Live() bool { return d.State != Failed && d.State != Deleted }

// BilledGB is the size that its account pays for: its own, and that of its
// snapshots.
func (d Drive) BilledGB() int64 {
	gb := d.GB
	for _, s := range d.Snapshots {
		gb += s.billedGB()
	}
	return gb
}

// Bucket changes with every drive: who shows or runs them watches it, and asks
// Changed which.
const Bucket = "drives"

var (
	all       = store.NewIntCollection[ID, Drive](Bucket)
	byAccount = store.NewPairCollection[Kind]("drives.by-account") // (account, drive), of those that are listed
	byName    = store.NewStringCollection[string, ID]("drives.by-name")
	withWork  = store.NewIntCollection[ID, struct{}]("drives.work") // those that Work has something for
)

// Changed tells which drive a change of Bucket is about.
func Changed(ch store.Change) ID { return all.KeyOf(ch) }

func nameKey(a identity.AccountID, name string) string { return fmt.Sprintf("%d/%s", a, name) }

// put writes a drive and its place among those with work.
func put(tx *store.Tx, d Drive) error {
	if err := all.Put(tx, d.ID, d); err != nil {
		return err
	}
	if _, busy := d.Work(); busy {
		return withWork.Put(tx, d.ID, struct{}{})
	}
	return withWork.Delete(tx, d.ID)
}

// Read gives a drive, whosever it is; ok is false when there never was one.
func Read(tx *store.Tx, id ID) (d Drive, ok bool, err error) { return all.Get(tx, id) }

// Get reads a drive or filesystem of the account; an empty kind is either.
// Another account's does not exist, as far as the caller can tell, and neither
// does one that is deleted.
func Get(tx *store.Tx, a identity.AccountID, kind Kind, id ID) (Drive, error) {
	d, ok, err := all.Get(tx, id)
	if err != nil {
		return Drive{}, err
	}
	if !ok || d.Account != a || d.State == Deleted || kind != "" && d.Kind != kind {
		what, path := kind.words(), kind
		if kind == "" {
			what, path = CloudDrive.words(), CloudDrive
		}
		return Drive{}, &Error{Kind: ErrNotFound, Message: fmt.Sprintf("there is no %s %d in this account; list them with GET /v1/%ss", what, id, path)}
	}
	return d, nil
}

// List reads the account's drives or filesystems, newest first, with numbers below
// before (0: from the newest), at most limit of them.
func List(tx *store.Tx, a identity.AccountID, kind Kind, before ID, limit int) (out []Drive, err error) {
	from := store.Last(int64(a))
	if before > 0 {
		from.B = int64(before) - 1
	}
	for rec, err := range byAccount.ScanDown(tx, from, store.First(int64(a))) {
		if err != nil {
			return nil, err
		}
		if len(out) == limit {
			break
		}
		if rec.Value != kind {
			continue
		}
		d, _, err := all.Get(tx, ID(rec.Key.B))
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// Volumes names what the machine has, and what it may have: that which is being made
// or deleted. What is there besides belongs to nobody.
func Volumes(tx *store.Tx) (has, may []string, err error) {
	for rec, err := range all.All(tx) {
		if err != nil {
			return nil, nil, err
		}
		switch d := rec.Value; {
		case !d.Live():
		case d.MadeGB == 0 || d.State == Deleting:
			may = append(may, d.Volume())
		default:
			has = append(has, d.Volume())
		}
	}
	return has, may, nil
}

// ofResource reads the drive of a name in the ledger; ok is false when it is none.
func ofResource(tx *store.Tx, resource string) (d Drive, ok bool, err error) {
	_, digits, _ := strings.Cut(resource, "/")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return d, false, nil
	}
	d, ok, err = all.Get(tx, ID(n))
	return d, ok && d.Resource() == resource, err
}
