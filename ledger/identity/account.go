package identity

import (
	"math"
	"time"

	"ecolink/ledger/store"
)

// Account is a team or a person that is billed.
type Account struct {
	ID      AccountID `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

// Role is what a user may do in an account.
type Role string

// An owner may do everything in the account; a member launches and stops
// resources, sees billing and uses keys.
const (
	RoleOwner  Role = "owner"
	RoleMember Role = "member"
)

// Membership is a user's role in an account.
type Membership struct {
	Account AccountID `json:"account"`
	User    UserID    `json:"user"`
	Role    Role      `json:"role"`
}

// Every membership is in both collections, or in none.
var (
	accounts          = store.NewIntCollection[AccountID, Account]("identity.accounts")
	membershipsByAcct = store.NewPairCollection[Membership](MembershipsBucket)
	membershipsByUser = store.NewPairCollection[Membership]("identity.memberships-by-user")
)

// CreateAccount makes an account without members.
func CreateAccount(tx *store.Tx, name string, now time.Time) (Account, error) {
	name, err := requiredText("name", name, maxNameRunes)
	if err != nil {
		return Account{}, err
	}
	id, err := tx.NextID(accounts.Name())
	if err != nil {
		return Account{}, err
	}
	a := Account{ID: AccountID(id), Name: name, Created: instant(now)}
	return a, accounts.Put(tx, a.ID, a)
}

// AccountByID reads one account.
func AccountByID(tx *store.Tx, id AccountID) (Account, error) {
	a, ok, err := accounts.Get(tx, id)
	if err == nil && !ok {
		err = fail(ErrNotFound, "there is no account %d: choose one from the list of accounts", id)
	}
	return a, err
}

// ListAccounts returns up to limit accounts with ids above after, rising.
func ListAccounts(tx *store.Tx, limit int, after AccountID) ([]Account, error) {
	return page(accounts.Scan(tx, after+1, math.MaxInt64), limit)
}

// AddMember gives a user a role in an account in which they have none.
func AddMember(tx *store.Tx, account AccountID, user UserID, role Role) error {
	if err := checkRole(role); err != nil {
		return err
	}
	if _, err := AccountByID(tx, account); err != nil {
		return err
	}
	if _, err := UserByID(tx, user); err != nil {
		return err
	}
	members, err := MembersOf(tx, account)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.User == user {
			return failField(ErrExists, "user", "user %d is in account %d already: change their role instead", user, account)
		}
	}
	if len(members) >= maxMembersPerAccount {
		return fail(ErrConflict, "account %d has %d members, the most it can have: remove one first", account, len(members))
	}
	theirs, err := MembershipsOf(tx, user)
	if err != nil {
		return err
	}
	if len(theirs) >= maxAccountsPerUser {
		return fail(ErrConflict, "user %d is in %d accounts, the most one can be in: leave one first", user, len(theirs))
	}
	return putMembership(tx, Membership{Account: account, User: user, Role: role})
}

// SetRole changes a member's role. The last owner stays one.
func SetRole(tx *store.Tx, account AccountID, user UserID, role Role) error {
	if err := checkRole(role); err != nil {
		return err
	}
	was, err := RoleIn(tx, account, user)
	if err != nil || was == role {
		return err
	}
	if err := keepAnOwner(tx, account, user); err != nil {
		return err
	}
	return putMembership(tx, Membership{Account: account, User: user, Role: role})
}

// RemoveMember takes a user out of an account. The keys that they made stay: they
// are the account's. The last owner can't be removed.
func RemoveMember(tx *store.Tx, account AccountID, user UserID) error {
	if _, err := RoleIn(tx, account, user); err != nil {
		return err
	}
	if err := keepAnOwner(tx, account, user); err != nil {
		return err
	}
	if err := membershipsByAcct.Delete(tx, store.Pair{A: int64(account), B: int64(user)}); err != nil {
		return err
	}
	return membershipsByUser.Delete(tx, store.Pair{A: int64(user), B: int64(account)})
}

// RoleIn is a user's role in an account; ErrNotFound when they have none.
func RoleIn(tx *store.Tx, account AccountID, user UserID) (Role, error) {
	m, ok, err := membershipsByAcct.Get(tx, store.Pair{A: int64(account), B: int64(user)})
	if err == nil && !ok {
		err = fail(ErrNotFound, "user %d is not in account %d: ask one of its owners for an invitation", user, account)
	}
	return m.Role, err
}

// MembershipsOf lists the accounts that a user is in, oldest account first.
func MembershipsOf(tx *store.Tx, user UserID) ([]Membership, error) {
	return values(membershipsByUser.Scan(tx, store.First(int64(user)), store.Last(int64(user))))
}

// MembersOf lists the users in an account, oldest user first.
func MembersOf(tx *store.Tx, account AccountID) ([]Membership, error) {
	return values(membershipsByAcct.Scan(tx, store.First(int64(account)), store.Last(int64(account))))
}

// keepAnOwner fails unless the account has an owner besides the user, or never
// depended on them.
func keepAnOwner(tx *store.Tx, account AccountID, user UserID) error {
	members, err := MembersOf(tx, account)
	if err != nil {
		return err
	}
	isOwner := false
	for _, m := range members {
		switch {
		case m.Role != RoleOwner:
		case m.User == user:
			isOwner = true
		default:
			return nil
		}
	}
	if !isOwner {
		return nil
	}
	return fail(ErrConflict, "user %d is the last owner of account %d: make somebody else an owner first", user, account)
}

func putMembership(tx *store.Tx, m Membership) error {
	if err := membershipsByAcct.Put(tx, store.Pair{A: int64(m.Account), B: int64(m.User)}, m); err != nil {
		return err
	}
	return membershipsByUser.Put(tx, store.Pair{A: int64(m.User), B: int64(m.Account)}, m)
}

func checkRole(r Role) error {
	if r == RoleOwner || r == RoleMember {
		return nil
	}
	return failField(ErrInvalid, "role", "%q is not a role: choose %s or %s", r, RoleOwner, RoleMember)
}
