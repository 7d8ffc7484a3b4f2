package identity

import (
	"time"

	"ecolink/ledger/store"
)

// Key is an API key without its secret. It belongs to the account; who made it
// is only remembered.
type Key struct {
	ID       KeyID     `json:"id"`
	Account  AccountID `json:"account"`
	Creator  UserID    `json:"creator"`
	Name     string    `json:"name"`
	Tag      string    `json:"tag,omitempty"` // the source that usage is counted under
	Prefix   string    `json:"prefix"`        // the secret's first characters, to tell keys apart
	Created  time.Time `json:"created"`
	Revoked  time.Time `json:"revoked,omitzero"`
	LastUsed time.Time `json:"last_used,omitzero"` // to the minute
}

// TouchDue tells from a Key that was read in a View whether TouchKey would write
// anything. Ask it first: a request need not wait for the writer to learn that.
func (k Key) TouchDue(now time.Time) bool { return now.Sub(k.LastUsed) >= keyTouchEvery }

// KeysBucket changes when a key is created or revoked, and at no other time: who
// keeps found keys in memory watches it, and forgets ChangedKey.
const KeysBucket = "identity.keys"

var (
	keys          = store.NewIntCollection[KeyID, Key](KeysBucket)
	keyDigests    = store.NewStringCollection[string, KeyID]("identity.key-digests")
	keysByAccount = store.NewPairCollection[struct{}]("identity.keys-by-account") // live keys only
	keyUses       = store.NewIntCollection[KeyID, time.Time]("identity.key-uses") // apart from keys: see KeysBucket
)

// ChangedKey is the key that a change of KeysBucket is about.
func ChangedKey(ch store.Change) KeyID { return keys.KeyOf(ch) }

// CreateKey makes a key for an account of which the creator is an owner. The
// secret is returned this once; only its digest is kept.
func CreateKey(tx *store.Tx, account AccountID, creator UserID, name, tag string, now time.Time) (k Key, secret string, err error) {
	if name, err = requiredText("name", name, maxNameRunes); err != nil {
		return Key{}, "", err
	}
	if tag, err = cleanText("tag", tag, maxTagRunes); err != nil {
		return Key{}, "", err
	}
	role, err := RoleIn(tx, account, creator)
	if err != nil {
		return Key{}, "", err
	}
	if role != RoleOwner {
		return Key{}, "", fail(ErrForbidden, "only owners of account %d make API keys: ask one of them", account)
	}
	live, err := ids[KeyID](keysByAccount, tx, int64(account))
	if err != nil {
		return Key{}, "", err
	}
	if len(live) >= maxKeysPerAccount {
		return Key{}, "", fail(ErrConflict, "account %d has %d API keys, the most it can have: revoke one first", account, len(live))
	}
	id, err := tx.NextID(keys.Name())
	if err != nil {
		return Key{}, "", err
	}
	secret = newKeySecret()
	k = Key{
		ID: KeyID(id), Account: account, Creator: creator, Name: name, Tag: tag,
		Prefix: secret[:keyShownChars], Created: instant(now),
	}
	if err := keys.Put(tx, k.ID, k); err != nil {
		return Key{}, "", err
	}
	if err := keyDigests.Put(tx, digest(secret), k.ID); err != nil {
		return Key{}, "", err
	}
	return k, secret, keysByAccount.Put(tx, store.Pair{A: int64(account), B: id}, struct{}{})
}

// FindKey is the key that a secret belongs to. Unknown, malformed and revoked
// secrets are one and the same ErrUnauthorized.
func FindKey(tx *store.Tx, secret string) (Key, error) {
	refused := fail(ErrUnauthorized, "the API key is unknown or was revoked: ask an owner of the account for one, and send it as \"Authorization: Bearer eco_…\"")
	if !LooksLikeKey(secret) {
		return Key{}, refused
	}
	id, ok, err := keyDigests.Get(tx, digest(secret))
	if err != nil {
		return Key{}, err
	}
	if !ok {
		return Key{}, refused
	}
	k, ok, err := readKey(tx, id)
	if err != nil {
		return Key{}, err
	}
	if !ok || !k.Revoked.IsZero() {
		return Key{}, refused
	}
	return k, nil
}

// KeyByID reads an account's key, revoked ones too: old usage names them.
func KeyByID(tx *store.Tx, account AccountID, id KeyID) (Key, error) {
	k, ok, err := readKey(tx, id)
	if err != nil {
		return Key{}, err
	}
	if !ok || k.Account != account {
		return Key{}, fail(ErrNotFound, "account %d has no API key %d: choose one from its list", account, id)
	}
	return k, nil
}

// ListKeys lists an account's keys that are not revoked, oldest first.
func ListKeys(tx *store.Tx, account AccountID) ([]Key, error) {
	live, err := ids[KeyID](keysByAccount, tx, int64(account))
	if err != nil {
		return nil, err
	}
	out := make([]Key, 0, len(live))
	for _, id := range live {
		k, err := KeyByID(tx, account, id)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// RevokeKey makes FindKey refuse the key from this transaction on. Revoking it
// again changes nothing.
func RevokeKey(tx *store.Tx, account AccountID, id KeyID, now time.Time) error {
	k, err := KeyByID(tx, account, id)
	if err != nil || !k.Revoked.IsZero() {
		return err
	}
	k.Revoked = instant(now)
	k.LastUsed = time.Time{} // lives in keyUses
	if err := keys.Put(tx, id, k); err != nil {
		return err
	}
	return keysByAccount.Delete(tx, store.Pair{A: int64(account), B: int64(id)})
}

// TouchKey notes that a key was used, at most once a minute; in between it writes
// nothing, and the time never goes back.
func TouchKey(tx *store.Tx, id KeyID, now time.Time) error {
	k, ok, err := readKey(tx, id)
	if err != nil {
		return err
	}
	if !ok {
		return fail(ErrNotFound, "there is no API key %d: choose one from the account's list", id)
	}
	if !k.TouchDue(now) {
		return nil
	}
	return keyUses.Put(tx, id, instant(now))
}

func readKey(tx *store.Tx, id KeyID) (Key, bool, error) {
	k, ok, err := keys.Get(tx, id)
	if err != nil || !ok {
		return Key{}, false, err
	}
	k.LastUsed, _, err = keyUses.Get(tx, id)
	return k, true, err
}
