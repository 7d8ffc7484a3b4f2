package identity

import (
	"math"
	"time"

	"ecolink/ledger/store"
)

// User is a person. It carries no password hash, so that it can be shown.
type User struct {
	ID       UserID    `json:"id"`
	Email    string    `json:"email"` // normalised and unique
	Name     string    `json:"name,omitempty"`
	Operator bool      `json:"operator,omitempty"` // runs the box
	Created  time.Time `json:"created"`
}

// NewUser is what CreateUser needs.
type NewUser struct {
	Email        string
	PasswordHash string // from Hasher.Hash; empty for one who signs in elsewhere
	Name         string // may be empty
	Operator     bool
}

type userRecord struct {
	User
	PasswordHash string `json:"password_hash,omitempty"`
}

var (
	users      = store.NewIntCollection[UserID, userRecord]("identity.users")
	userEmails = store.NewStringCollection[string, UserID]("identity.user-emails")
)

// CreateUser makes a user who is in no account yet. An e-mail that is taken is
// ErrExists. With the first operator the box counts as set up.
func CreateUser(tx *store.Tx, n NewUser, now time.Time) (User, error) {
	email, err := NormalizeEmail(n.Email)
	if err != nil {
		return User{}, err
	}
	name, err := cleanText("name", n.Name, maxNameRunes)
	if err != nil {
		return User{}, err
	}
	if n.PasswordHash != "" {
		if err := checkHash(n.PasswordHash); err != nil {
			return User{}, err
		}
	}
	if _, taken, err := userEmails.Get(tx, email); err != nil {
		return User{}, err
	} else if taken {
		return User{}, failField(ErrExists, "email", "there is a user with the e-mail %s already: sign in as them, or use another e-mail", email)
	}
	id, err := tx.NextID(users.Name())
	if err != nil {
		return User{}, err
	}
	u := User{ID: UserID(id), Email: email, Name: name, Operator: n.Operator, Created: instant(now)}
	if err := users.Put(tx, u.ID, userRecord{User: u, PasswordHash: n.PasswordHash}); err != nil {
		return User{}, err
	}
	if err := userEmails.Put(tx, email, u.ID); err != nil {
		return User{}, err
	}
	if u.Operator {
		if err := finishSetup(tx); err != nil {
			return User{}, err
		}
	}
	return u, nil
}

// UserByID reads one user.
func UserByID(tx *store.Tx, id UserID) (User, error) {
	r, err := readUser(tx, id)
	return r.User, err
}

// UserByEmail finds a user by an e-mail in any spelling that normalises to theirs.
func UserByEmail(tx *store.Tx, email string) (User, error) {
	r, err := userRecordByEmail(tx, email)
	return r.User, err
}

// ListUsers returns up to limit users with ids above after, rising.
func ListUsers(tx *store.Tx, limit int, after UserID) ([]User, error) {
	records, err := page(users.Scan(tx, after+1, math.MaxInt64), limit)
	out := make([]User, len(records))
	for i, r := range records {
		out[i] = r.User
	}
	return out, err
}

// SetPassword replaces a user's password and signs them out everywhere: whoever
// knew the old one is no longer in.
func SetPassword(tx *store.Tx, user UserID, hash string) error {
	if err := checkHash(hash); err != nil {
		return err
	}
	r, err := readUser(tx, user)
	if err != nil {
		return err
	}
	r.PasswordHash = hash
	if err := users.Put(tx, user, r); err != nil {
		return err
	}
	return DeleteAllSessions(tx, user)
}

// upgradeHash replaces a hash by a stronger one of the same password, unless the
// password has been changed meanwhile.
func upgradeHash(tx *store.Tx, user UserID, from, to string) error {
	r, err := readUser(tx, user)
	if err != nil || r.PasswordHash != from {
		return err
	}
	r.PasswordHash = to
	return users.Put(tx, user, r)
}

func readUser(tx *store.Tx, id UserID) (userRecord, error) {
	r, ok, err := users.Get(tx, id)
	if err == nil && !ok {
		err = fail(ErrNotFound, "there is no user %d: choose one from the list of users", id)
	}
	return r, err
}

func userRecordByEmail(tx *store.Tx, email string) (userRecord, error) {
	missing := fail(ErrNotFound, "there is no user with the e-mail %q: check its spelling, or invite them", cut(email, maxEmailBytes))
	email, err := NormalizeEmail(email)
	if err != nil {
		return userRecord{}, missing
	}
	id, ok, err := userEmails.Get(tx, email)
	if err != nil {
		return userRecord{}, err
	}
	if !ok {
		return userRecord{}, missing
	}
	return readUser(tx, id)
}
