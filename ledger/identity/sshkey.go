package identity

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"ecolink/ledger/store"
)

// SSHKeyID numbers the public SSH keys of users.
type SSHKeyID int64

// SSHKey is a user's public key: who holds its private half may enter the
// instances of the accounts that the user is in.
//
// Public keys are public: until its user proves to have the private half (see
// ProveSSHKey), a key in a profile says who wants it to open their instances, and
// not whose it is. It is in one profile at most, so that it says one thing, and
// who proves it takes it from who has not.
type SSHKey struct {
	ID          SSHKeyID  `json:"id"`
	User        UserID    `json:"user"`
	Account     AccountID `json:"account,omitempty"` // the only account that it opens; 0: all of the user's
	Name        string    `json:"name"`
	Type        string    `json:"type"`        // ssh-ed25519
	Fingerprint string    `json:"fingerprint"` // SHA256:…
	Line        string    `json:"line"`        // type and key as authorized_keys has them
	Created     time.Time `json:"created"`
	Proven      time.Time `json:"proven,omitzero"`    // zero: not yet
	LastUsed    time.Time `json:"last_used,omitzero"` // to the minute
}

// TouchDue is what Key.TouchDue is for an API key.
func (k SSHKey) TouchDue(now time.Time) bool { return now.Sub(k.LastUsed) >= keyTouchEvery }

// IsProven tells whether its user has proved to have the private half.
func (k SSHKey) IsProven() bool { return !k.Proven.IsZero() }

// Buckets that change when somebody may enter who could not, or the reverse.
const (
	SSHKeysBucket     = "identity.ssh-keys"
	MembershipsBucket = "identity.memberships"
)

var (
	sshKeys       = store.NewIntCollection[SSHKeyID, SSHKey](SSHKeysBucket)
	sshKeysByUser = store.NewPairCollection[struct{}]("identity.ssh-keys-by-user")
	sshKeyHolders = store.NewStringCollection[string, SSHKeyID]("identity.ssh-key-holders") // by fingerprint and user
	sshKeyUses    = store.NewIntCollection[SSHKeyID, time.Time]("identity.ssh-key-uses")    // apart: see SSHKeysBucket
)

// AddSSHKey gives a user a key without a proof that they have its private half.
// text is one line of an authorized_keys file; name may be empty: the key's own
// comment then. A key that is for one account only opens that one alone, and needs
// a user who is in it. A key that is in a profile, the user's own or another's, is
// ErrExists; ErrUnproven if a proof would make it the user's.
func AddSSHKey(tx *store.Tx, user UserID, account AccountID, name, text string, now time.Time) (SSHKey, error) {
	key, err := parseOneSSHKey(text)
	if err != nil {
		return SSHKey{}, err
	}
	all, err := sshKeysWithFingerprint(tx, key.Fingerprint)
	if err != nil {
		return SSHKey{}, err
	}
	for _, k := range all {
		if k.User == user {
			return SSHKey{}, alreadyTheirs(k)
		}
	}
	if slices.ContainsFunc(all, SSHKey.IsProven) {
		return SSHKey{}, provenElsewhere()
	}
	if len(all) > 0 {
		return SSHKey{}, unprovenElsewhere()
	}
	return insertSSHKey(tx, user, account, name, key, now, time.Time{})
}

func parseOneSSHKey(text string) (SSHPublicKey, error) {
	parsed, err := ParseSSHKeys("public_key", text)
	if err != nil {
		return SSHPublicKey{}, err
	}
	if len(parsed) != 1 {
		return SSHPublicKey{}, failField(ErrInvalid, "public_key", "these are %d keys: add them one by one", len(parsed))
	}
	return parsed[0], nil
}

// insertSSHKey writes a key that is in nobody's profile.
func insertSSHKey(tx *store.Tx, user UserID, account AccountID, name string, key SSHPublicKey, now, proven time.Time) (SSHKey, error) {
	name, err := cleanText("name", name, maxNameRunes)
	if err != nil {
		return SSHKey{}, err
	}
	if _, err := UserByID(tx, user); err != nil {
		return SSHKey{}, err
	}
	if account != 0 {
		if _, err := RoleIn(tx, account, user); err != nil {
			return SSHKey{}, err
		}
	}
	theirs, err := ids[SSHKeyID](sshKeysByUser, tx, int64(user))
	if err != nil {
		return SSHKey{}, err
	}
	if len(theirs) >= maxSSHKeysPerUser {
		return SSHKey{}, fail(ErrConflict, "you have %d SSH keys, the most there can be: remove one first", len(theirs))
	}
	n, err := tx.NextID(sshKeys.Name())
	if err != nil {
		return SSHKey{}, err
	}
	if name == "" {
		name = key.Comment
	}
	if name == "" {
		name = key.Type
	}
	k := SSHKey{
		ID: SSHKeyID(n), User: user, Account: account, Name: name, Type: key.Type,
		Fingerprint: key.Fingerprint, Line: key.Line, Created: instant(now), Proven: proven,
	}
	if err := sshKeys.Put(tx, k.ID, k); err != nil {
		return SSHKey{}, err
	}
	if err := sshKeyHolders.Put(tx, holderOf(k.Fingerprint, user), k.ID); err != nil {
		return SSHKey{}, err
	}
	return k, sshKeysByUser.Put(tx, store.Pair{A: int64(user), B: n}, struct{}{})
}

// RemoveSSHKey takes a key from its user.
func RemoveSSHKey(tx *store.Tx, user UserID, id SSHKeyID) error {
	k, err := SSHKeyByID(tx, user, id)
	if err != nil {
		return err
	}
	if err := sshKeyHolders.Delete(tx, holderOf(k.Fingerprint, user)); err != nil {
		return err
	}
	if err := sshKeysByUser.Delete(tx, store.Pair{A: int64(user), B: int64(id)}); err != nil {
		return err
	}
	if err := sshKeyUses.Delete(tx, id); err != nil {
		return err
	}
	return sshKeys.Delete(tx, id)
}

// SSHKeyByID reads a user's key.
func SSHKeyByID(tx *store.Tx, user UserID, id SSHKeyID) (SSHKey, error) {
	k, ok, err := sshKeys.Get(tx, id)
	if err != nil {
		return SSHKey{}, err
	}
	if !ok || k.User != user {
		return SSHKey{}, fail(ErrNotFound, "you have no SSH key %d: choose one from your list", id)
	}
	k.LastUsed, _, err = sshKeyUses.Get(tx, id)
	return k, err
}

// ListSSHKeys lists a user's keys, oldest first.
func ListSSHKeys(tx *store.Tx, user UserID) ([]SSHKey, error) {
	all, err := ids[SSHKeyID](sshKeysByUser, tx, int64(user))
	if err != nil {
		return nil, err
	}
	out := make([]SSHKey, 0, len(all))
	for _, id := range all {
		k, err := SSHKeyByID(tx, user, id)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// SSHKeyWithFingerprint finds a key in whichever profile it is. A ledger from
// before there was one at most may hold it in several: the one that is proved
// counts, or else the first that was added, and the others open nothing until that
// one is removed.
func SSHKeyWithFingerprint(tx *store.Tx, fingerprint string) (k SSHKey, ok bool, err error) {
	all, err := sshKeysWithFingerprint(tx, fingerprint)
	if err != nil || len(all) == 0 {
		return SSHKey{}, false, err
	}
	return all[0], true, nil
}

// sshKeysWithFingerprint lists all that hold a key, who counts first.
func sshKeysWithFingerprint(tx *store.Tx, fingerprint string) (out []SSHKey, err error) {
	held, err := values(sshKeyHolders.Scan(tx, fingerprint+"/", fingerprint+"/~"))
	if err != nil {
		return nil, err
	}
	for _, id := range held {
		k, ok, err := sshKeys.Get(tx, id)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("SSH key %d is in the index of %s and not in the list", id, fingerprint)
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b SSHKey) int {
		if a.IsProven() != b.IsProven() {
			if a.IsProven() {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.ID, b.ID)
	})
	return out, nil
}

// AccountsOpenTo lists the accounts whose instances a key opens now, with the key.
func AccountsOpenTo(tx *store.Tx, fingerprint string) (map[AccountID]SSHKey, error) {
	k, ok, err := SSHKeyWithFingerprint(tx, fingerprint)
	if err != nil || !ok {
		return nil, err
	}
	opened, err := accountsOf(tx, k)
	if err != nil {
		return nil, err
	}
	out := map[AccountID]SSHKey{}
	for _, a := range opened {
		out[a] = k
	}
	return out, nil
}

// accountsOf lists the accounts that a key opens as a whole.
func accountsOf(tx *store.Tx, k SSHKey) ([]AccountID, error) {
	memberships, err := MembershipsOf(tx, k.User)
	if err != nil {
		return nil, err
	}
	var out []AccountID
	for _, m := range memberships {
		if k.Account == 0 || k.Account == m.Account {
			out = append(out, m.Account)
		}
	}
	return out, nil
}

// TouchSSHKey notes that a key was used, at most once a minute.
func TouchSSHKey(tx *store.Tx, user UserID, id SSHKeyID, now time.Time) error {
	k, err := SSHKeyByID(tx, user, id)
	if err != nil || !k.TouchDue(now) {
		return err
	}
	return sshKeyUses.Put(tx, id, instant(now))
}

func holderOf(fingerprint string, user UserID) string { return fmt.Sprintf("%s/%d", fingerprint, user) }
