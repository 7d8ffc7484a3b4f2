package identity

import (
	"crypto/subtle"
	"time"

	"ecolink/ledger/store"
)

// setupState is the one record that says whether the box has its first operator.
type setupState struct {
	Done        bool      `json:"done,omitempty"`
	TokenDigest string    `json:"token_digest,omitempty"`
	Created     time.Time `json:"created,omitzero"` // of the token
}

var setup = store.NewStringCollection[string, setupState]("identity.setup")

const setupKey = "state"

// IsSetUp tells whether the box has had an operator.
func IsSetUp(tx *store.Tx) (bool, error) {
	st, _, err := setup.Get(tx, setupKey)
	return st.Done, err
}

// CreateSetupToken makes the token of the link that the first start prints. A new
// one takes the place of any before it. Once the box is set up it is ErrExists.
func CreateSetupToken(tx *store.Tx, now time.Time) (string, error) {
	if err := checkNotSetUp(tx); err != nil {
		return "", err
	}
	token := newToken()
	return token, setup.Put(tx, setupKey, setupState{TokenDigest: digest(token), Created: instant(now)})
}

// CheckSetupToken tells whether UseSetupToken would take the token: for showing
// the form without using up the link.
func CheckSetupToken(tx *store.Tx, token string, now time.Time) error {
	st, _, err := setup.Get(tx, setupKey)
	if err != nil {
		return err
	}
	same := subtle.ConstantTimeCompare([]byte(digest(token)), []byte(st.TokenDigest)) == 1
	if st.Done || !same || !now.Before(st.Created.Add(SetupTokenLife)) {
		return fail(ErrUnauthorized, "the set-up link was used, replaced or is too old: sign in, or restart EcoLink and open the link that it prints")
	}
	return nil
}

// UseSetupToken uses the token up. Call it in the transaction of Bootstrap: when
// that fails, the link still works.
func UseSetupToken(tx *store.Tx, token string, now time.Time) error {
	if err := CheckSetupToken(tx, token, now); err != nil {
		return err
	}
	return setup.Put(tx, setupKey, setupState{})
}

// FirstOperator is what Bootstrap needs.
type FirstOperator struct {
	AccountName string
	User        NewUser // becomes an operator
	KeyName     string
}

// Bootstrapped is what Bootstrap made. Secret is the key's, told this once.
type Bootstrapped struct {
	Account Account
	User    User
	Key     Key
	Secret  string
}

// Bootstrap makes the first account, its owner who is the operator, and an API
// key. On a box that has an operator it is ErrExists.
func Bootstrap(tx *store.Tx, f FirstOperator, now time.Time) (b Bootstrapped, err error) {
	if err := checkNotSetUp(tx); err != nil {
		return Bootstrapped{}, err
	}
	f.User.Operator = true
	if b.Account, err = CreateAccount(tx, f.AccountName, now); err != nil {
		return Bootstrapped{}, err
	}
	if b.User, err = CreateUser(tx, f.User, now); err != nil {
		return Bootstrapped{}, err
	}
	if err = AddMember(tx, b.Account.ID, b.User.ID, RoleOwner); err != nil {
		return Bootstrapped{}, err
	}
	if b.Key, b.Secret, err = CreateKey(tx, b.Account.ID, b.User.ID, f.KeyName, "", now); err != nil {
		return Bootstrapped{}, err
	}
	return b, nil
}

func checkNotSetUp(tx *store.Tx) error {
	done, err := IsSetUp(tx)
	if err == nil && done {
		err = fail(ErrExists, "the box is set up already: sign in as its operator")
	}
	return err
}

// finishSetup ends set-up for good, and with it any token.
func finishSetup(tx *store.Tx) error { return setup.Put(tx, setupKey, setupState{Done: true}) }
