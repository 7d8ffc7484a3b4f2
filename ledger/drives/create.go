package drives

import (
	"regexp"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// defaultMountPath is where a filesystem is mounted when nobody says where.
const defaultMountPath = "/shared"

// New is what a drive or filesystem is created with.
type New struct {
	Account   identity.AccountID
	CreatedBy identity.UserID
	Kind      Kind
	Name      string
	GB        int64  // 0 for a clone: as large as what it is made of
	MountPath string // of a filesystem alone
	CloneOf   *Source
}

// Check refuses what can never be created, whatever there is. The ledger is not
// asked.
func (n New) Check() error {
	if !n.Kind.known() {
		return invalid("kind", "%q is neither a %s nor a %s", n.Kind, CloudDrive, SharedFilesystem)
	}
	if err := checkName(n.Name); err != nil {
		return err
	}
	if n.GB != 0 || n.CloneOf == nil {
		if err := checkGB(n.GB); err != nil {
			return err
		}
	}
	if n.Kind == CloudDrive && n.MountPath != "" {
		return invalid("mount_path", "a drive is mounted where a launch says: leave the path out")
	}
	if n.MountPath != "" {
		return CheckPathOf("mount_path", n.MountPath)
	}
	return nil
}

// CheckPathOf is CheckMountPath for a field that is not called "path".
func CheckPathOf(field, path string) error {
	err := CheckMountPath(path)
	if e, ok := err.(*Error); ok {
		e.Field = field
	}
	return err
}

func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return invalid("name", "a name is 1 to 63 lower-case letters, digits and hyphens, and begins and ends with a letter or digit")
	}
	return nil
}

func checkGB(gb int64) error {
	if gb < 1 || gb > maxGB {
		return invalid("size_gb", "a size of %d GB can't be: ask for 1 to %d", gb, maxGB)
	}
	return nil
}

// Create writes a drive that is to be made. The balance must cover its first 24
// hours, else it is an *ledger.InsufficientError; it is billed once it can be used.
func Create(tx *store.Tx, n New, now time.Time) (Drive, error) {
	if err := n.Check(); err != nil {
		return Drive{}, err
	}
	if err := roomFor(tx, n); err != nil {
		return Drive{}, err
	}
	if n.CloneOf != nil {
		gb, err := cloneable(tx, n.Account, *n.CloneOf)
		if err != nil {
			return Drive{}, err
		}
		if n.GB == 0 {
			n.GB = gb
		}
		if n.GB < gb {
			return Drive{}, invalid("size_gb", "what is cloned has %d GB: ask for as much, or more", gb)
		}
		n.CloneOf = &Source{Drive: n.CloneOf.Drive, Snapshot: n.CloneOf.Snapshot, GB: gb}
	}
	if n.Kind == SharedFilesystem && n.MountPath == "" {
		n.MountPath = defaultMountPath
	}
	id, err := tx.NextID(Bucket)
	if err != nil {
		return Drive{}, err
	}
	now = now.UTC()
	d := Drive{
		ID: ID(id), Account: n.Account, Kind: n.Kind, Name: n.Name, Region: Region, MountPath: n.MountPath,
		CreatedBy: n.CreatedBy, CreatedAt: now, GB: n.GB, CloneOf: n.CloneOf,
		State: Pending, History: []Change{{State: Pending, At: now, Reason: "created"}},
	}
	_, err = metering.AddVolume(tx, metering.NewVolume{Account: d.Account, Resource: d.Resource(), Item: d.Kind.item(), GB: d.GB, Later: true}, now)
	if err != nil {
		return Drive{}, err
	}
	if err := byName.Put(tx, nameKey(d.Account, d.Name), d.ID); err != nil {
		return Drive{}, err
	}
	if err := byAccount.Put(tx, store.Pair{A: int64(d.Account), B: id}, d.Kind); err != nil {
		return Drive{}, err
	}
	return d, put(tx, d)
}

// roomFor refuses a name that is taken, and more drives than an account may have.
func roomFor(tx *store.Tx, n New) error {
	id, taken, err := byName.Get(tx, nameKey(n.Account, n.Name))
	if err != nil {
		return err
	}
	if taken {
		other, _, err := all.Get(tx, id)
		if err != nil {
			return err
		}
		return conflict("name", "%s has that name already: choose another one", other)
	}
	have := 0
	for _, err := range byAccount.Scan(tx, store.First(int64(n.Account)), store.Last(int64(n.Account))) {
		if err != nil {
			return err
		}
		have++
	}
	if have >= maxPerAccount {
		return conflict("", "an account has %d drives and filesystems at most: delete one that is no longer needed", maxPerAccount)
	}
	return nil
}

// cloneable gives the size of what is to be cloned.
func cloneable(tx *store.Tx, a identity.AccountID, from Source) (gb int64, err error) {
	d, err := Get(tx, a, "", from.Drive)
	if err != nil {
		return 0, err
	}
	if err := d.usable(); err != nil {
		return 0, err
	}
	if from.Snapshot != "" {
		s, err := d.ready(from.Snapshot)
		return s.GB, err
	}
	if d.MadeGB != d.GB {
		return 0, busy("%s is being grown: try again in a moment", d)
	}
	return d.GB, nil
}

// usable refuses a drive that can't be used now, whoever uses it already.
func (d Drive) usable() error {
	switch d.State {
	case Available, Attached:
		return nil
	case Pending:
		return conflict("", "%s is being made: wait until it is available", d)
	case Suspended:
		return conflict("", "%s is suspended, since the balance does not pay for it: add credit, and it is back by itself", d)
	case Failed:
		return conflict("", "%s could not be made: delete it, and create another", d)
	default:
		return conflict("", "%s is being deleted: use another", d)
	}
}

// beingCloned tells of a drive that is being made of what this one has, or what
// its snapshot has. It is not to change meanwhile.
func beingCloned(tx *store.Tx, d Drive, snapshot string) (clone Drive, is bool, err error) {
	for rec, err := range withWork.All(tx) {
		if err != nil {
			return clone, false, err
		}
		c, _, err := all.Get(tx, rec.Key)
		if err != nil {
			return clone, false, err
		}
		if c.CloneOf != nil && c.MadeGB == 0 && c.CloneOf.Drive == d.ID && c.CloneOf.Snapshot == snapshot {
			return c, true, nil
		}
	}
	return clone, false, nil
}

// undisturbed refuses to change a drive while a clone of it is made; snapshot names
// the one that is to change, "" the drive itself.
func undisturbed(tx *store.Tx, d Drive, snapshot string) error {
	c, is, err := beingCloned(tx, d, snapshot)
	if err == nil && is {
		err = busy("%s is being made of it: try again when that is there", c)
	}
	return err
}

// Unmade is how many bytes the machine is still to make room for, for the drives
// named, when it has so much of each volume already. A drive that is there, or about
// to be deleted, needs no more.
func Unmade(tx *store.Tx, ids []ID, has map[string]int64) (bytes int64, err error) {
	for _, id := range ids {
		d, _, err := all.Get(tx, id)
		if err != nil {
			return 0, err
		}
		if d.Live() && d.State != Deleting {
			bytes += max(0, d.GB*BytesPerGB-has[d.Volume()])
		}
	}
	return bytes, nil
}
