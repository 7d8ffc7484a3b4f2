package scheduler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ecolink/agent"
	"ecolink/ledger/drives"
	"ecolink/ledger/identity"
	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

// DriveID numbers cloud drives and shared filesystems together, from 1.
type DriveID = drives.ID

// DriveRequest asks for a new drive or filesystem.
type DriveRequest struct {
	Account   identity.AccountID
	User      identity.UserID
	Kind      drives.Kind
	Name      string
	GB        int64          // of 10⁹ bytes; 0 for a clone: as large as what it is made of
	MountPath string         `json:",omitempty"` // of a filesystem, where a launch names none
	CloneOf   *drives.Source `json:",omitempty"`
	Key       string         // idempotency key, optional
}

// CreateDrive writes a drive that is to be made, if the pool has room for it and
// the balance covers its first 24 hours. Nothing is created on any error. With an
// idempotency key the second call gives what the first made.
func (s *Scheduler) CreateDrive(ctx context.Context, r DriveRequest) (d drives.Drive, err error) {
	n := drives.New{Account: r.Account, CreatedBy: r.User, Kind: r.Kind, Name: r.Name, GB: r.GB, MountPath: r.MountPath, CloneOf: r.CloneOf}
	if err := n.Check(); err != nil {
		return d, driveProblem(err)
	}
	space, release, err := s.poolSpace(ctx)
	if err != nil {
		return d, err
	}
	defer release()
	sum := r
	sum.Key, sum.User = "", 0
	o := once{r.Account, r.Key, fingerprintOf("create", sum)}
	err = s.store.Update(ctx, func(tx *store.Tx) (err error) {
		var again bool
		if d, again, err = o.before(tx); err != nil || again {
			return err
		}
		room, err := space.room(tx)
		if err != nil {
			return err
		}
		if err := room.forGB(n.GB); err != nil {
			return err
		}
		if d, err = drives.Create(tx, n, time.Now()); err != nil {
			return err
		}
		if err := room.forGB(d.GB); err != nil { // of a clone the size is known now
			return err
		}
		return o.note(tx, d.ID)
	})
	return d, driveProblem(err)
}

// Drive reads a drive or filesystem of the account.
func (s *Scheduler) Drive(a identity.AccountID, kind drives.Kind, id DriveID) (d drives.Drive, err error) {
	err = s.store.View(func(tx *store.Tx) (err error) { d, err = drives.Get(tx, a, kind, id); return err })
	return d, driveProblem(err)
}

// Drives reads the account's drives or filesystems, newest first, with numbers
// below before (0: from the newest), at most limit of them.
func (s *Scheduler) Drives(a identity.AccountID, kind drives.Kind, before DriveID, limit int) (out []drives.Drive, err error) {
	err = s.store.View(func(tx *store.Tx) (err error) { out, err = drives.List(tx, a, kind, before, limit); return err })
	return out, err
}

// GrowDrive asks for a larger size, attached or not. On any error it stays as it is.
func (s *Scheduler) GrowDrive(ctx context.Context, a identity.AccountID, kind drives.Kind, id DriveID, gb int64) (drives.Drive, error) {
	space, release, err := s.poolSpace(ctx)
	if err != nil {
		return drives.Drive{}, err
	}
	defer release()
	return s.change(ctx, a, kind, id, once{}, func(tx *store.Tx, d drives.Drive, now time.Time) (drives.Drive, error) {
		room, err := space.room(tx)
		if err != nil {
			return d, err
		}
		grown, err := drives.Grow(tx, d, gb, now)
		if err == nil && grown.GB > d.GB {
			err = room.forGB(grown.GB - d.GB)
		}
		return grown, err
	})
}

// DeleteDrive asks for a drive to be deleted, with its snapshots. It must be
// available. It is billed until now, and gone shortly after.
func (s *Scheduler) DeleteDrive(ctx context.Context, a identity.AccountID, kind drives.Kind, id DriveID) (drives.Drive, error) {
	return s.change(ctx, a, kind, id, once{}, drives.Discard)
}

// SnapshotDrive asks for a snapshot. With an idempotency key the second call makes
// no other.
func (s *Scheduler) SnapshotDrive(ctx context.Context, a identity.AccountID, kind drives.Kind, id DriveID, name, key string) (drives.Drive, error) {
	o := once{a, key, fingerprintOf("snapshot", id, name)}
	return s.change(ctx, a, kind, id, o, func(tx *store.Tx, d drives.Drive, now time.Time) (drives.Drive, error) {
		return drives.TakeSnapshot(tx, d, name, now)
	})
}

// DeleteSnapshot asks for a snapshot to be deleted.
func (s *Scheduler) DeleteSnapshot(ctx context.Context, a identity.AccountID, kind drives.Kind, id DriveID, name string) (drives.Drive, error) {
	return s.change(ctx, a, kind, id, once{}, func(tx *store.Tx, d drives.Drive, now time.Time) (drives.Drive, error) {
		return drives.DropSnapshot(tx, d, name, now)
	})
}

// RestoreDrive asks for an available drive to be put back to a snapshot: what was
// written since is lost. With an idempotency key the second call does nothing.
func (s *Scheduler) RestoreDrive(ctx context.Context, a identity.AccountID, kind drives.Kind, id DriveID, name, key string) (drives.Drive, error) {
	o := once{a, key, fingerprintOf("restore", id, name)}
	return s.change(ctx, a, kind, id, o, func(tx *store.Tx, d drives.Drive, now time.Time) (drives.Drive, error) {
		return drives.Restore(tx, d, name, now)
	})
}

// change does one thing to a drive of the account, in one transaction.
func (s *Scheduler) change(ctx context.Context, a identity.AccountID, kind drives.Kind, id DriveID, o once,
	do func(*store.Tx, drives.Drive, time.Time) (drives.Drive, error)) (d drives.Drive, err error) {
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		prior, again, err := o.before(tx)
		if err != nil || again {
			d = prior
			return err
		}
		if d, err = drives.Get(tx, a, kind, id); err != nil {
			return err
		}
		if d, err = do(tx, d, time.Now()); err != nil {
			return err
		}
		return o.note(tx, d.ID)
	})
	return d, driveProblem(err)
}

// OpenVolume opens the files of a drive or filesystem of the account, attached or
// not. The caller closes it.
func (s *Scheduler) OpenVolume(ctx context.Context, a identity.AccountID, id DriveID) (*agent.OpenVolume, error) {
	var d drives.Drive
	err := s.store.View(func(tx *store.Tx) (err error) { d, err = drives.Openable(tx, a, id); return err })
	if err != nil {
		return nil, driveProblem(err)
	}
	v, err := s.machine.OpenVolume(ctx, d.Volume())
	var used *agent.VolumeBusyError
	if err != nil && (permanent(err) || errors.As(err, &used)) {
		return nil, &Problem{Kind: Conflict, Message: fmt.Sprintf("%s can't be opened: %v", d, err), Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", d, err)
	}
	return v, nil
}

// DriveUsage tells how full a drive is; ok is false when that is not known now.
func (s *Scheduler) DriveUsage(ctx context.Context, d drives.Drive) (u agent.VolumeUsage, ok bool) {
	if !d.Live() || d.MadeGB == 0 {
		return u, false
	}
	u, err := s.machine.VolumeUsage(ctx, d.Volume())
	return u, err == nil
}

// once is a request that has an idempotency key; with an empty one it is made
// however often it comes.
type once struct {
	account     identity.AccountID
	key         string
	fingerprint string
}

// driveRecord remembers what a request did.
type driveRecord struct {
	ID          DriveID   `json:"id"`
	Fingerprint string    `json:"fingerprint"`
	At          time.Time `json:"at,omitzero"`
}

var drivesByRequest = store.NewStringCollection[string, driveRecord]("drives.idempotency")

func (o once) bucketKey() string { return fmt.Sprintf("%d/%s", o.account, o.key) }

// before gives what an earlier call of the request was about, as it is now. A drive
// that is forgotten has no requests.
func (o once) before(tx *store.Tx) (d drives.Drive, again bool, err error) {
	if o.key == "" {
		return d, false, nil
	}
	rec, ok, err := drivesByRequest.Get(tx, o.bucketKey())
	if err != nil || !ok {
		return d, false, err
	}
	if rec.Fingerprint != o.fingerprint {
		return d, false, &Problem{Kind: Conflict, Field: "Idempotency-Key", Message: "this idempotency key was used for another request: use a new one"}
	}
	return drives.Read(tx, rec.ID)
}

func (o once) note(tx *store.Tx, id DriveID) error {
	if o.key == "" {
		return nil
	}
	return drivesByRequest.Put(tx, o.bucketKey(), driveRecord{ID: id, Fingerprint: o.fingerprint, At: time.Now().UTC()})
}

func fingerprintOf(parts ...any) string {
	raw, err := json.Marshal(parts)
	if err != nil {
		panic(err) // they are made of texts and numbers
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// driveProblem puts what package drives and the metering refuse into the words of
// this package. The ledger's own errors stay as they are.
func driveProblem(err error) error {
	var d *drives.Error
	if errors.As(err, &d) {
		kind := map[error]Kind{drives.ErrInvalid: Unprocessable, drives.ErrNotFound: NotFound, drives.ErrConflict: Conflict, drives.ErrBusy: Conflict}[d.Kind]
		return &Problem{Kind: kind, Field: d.Field, Message: d.Message, Err: err}
	}
	var m *metering.Error
	if errors.As(err, &m) {
		p := &Problem{Kind: Unprocessable, Message: m.Message, Err: err}
		switch m.Kind {
		case metering.ErrInvalid:
			p.Field = "size_gb"
		case metering.ErrBehind:
			p.Kind, p.Message = Unavailable, "the billing of this storage is behind: try again in a moment"
		case metering.ErrConflict:
			p.Kind = Conflict
		case metering.ErrNotFound:
			return err // a drive that is not billed is our fault
		}
		return p
	}
	return err
}
