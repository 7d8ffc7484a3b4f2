package identity

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/store"
)

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// anyHash is well-formed and matches no password that the tests use.
var anyHash = phc{cost: defaultCost, salt: make([]byte, saltBytes), tag: make([]byte, tagBytes)}.String()

// box is a store with one account, its owner and a plain member.
type box struct {
	testing.TB
	db            *store.Store
	account       AccountID
	owner, member UserID
}

func newStore(t testing.TB) *store.Store {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func newBox(t testing.TB) *box {
	t.Helper()
	b := &box{TB: t, db: newStore(t)}
	b.update(func(tx *store.Tx) error {
		a, err := CreateAccount(tx, "Research", start)
		if err != nil {
			return err
		}
		b.account = a.ID
		for _, p := range []struct {
			email string
			role  Role
			id    *UserID
		}{{"owner@example.com", RoleOwner, &b.owner}, {"member@example.com", RoleMember, &b.member}} {
			u, err := CreateUser(tx, NewUser{Email: p.email, PasswordHash: anyHash}, start)
			if err != nil {
				return err
			}
			*p.id = u.ID
			if err := AddMember(tx, a.ID, u.ID, p.role); err != nil {
				return err
			}
		}
		return nil
	})
	return b
}

var errStopped = errors.New("the test stopped inside the transaction")

// try runs fn beside the store's writer, so that a Fatal in it ends fn and not
// the writer.
func (b *box) try(fn func(*store.Tx) error) error {
	return b.db.Update(context.Background(), func(tx *store.Tx) error {
		result := make(chan error, 1)
		go func() {
			err := errStopped
			defer func() { result <- err }()
			err = fn(tx)
		}()
		return <-result
	})
}

func (b *box) update(fn func(*store.Tx) error) {
	b.Helper()
	if err := b.try(fn); err != nil {
		b.Fatal(err)
	}
}

func (b *box) view(fn func(*store.Tx) error) error { return b.db.View(fn) }

func (b *box) key(name string) (k Key, secret string) {
	b.Helper()
	b.update(func(tx *store.Tx) (err error) {
		k, secret, err = CreateKey(tx, b.account, b.owner, name, "", start)
		return err
	})
	return k, secret
}

func (b *box) find(secret string) (k Key, err error) {
	err = b.view(func(tx *store.Tx) error { k, err = FindKey(tx, secret); return err })
	return k, err
}

func (b *box) session(user UserID, now time.Time) (s Session, token string) {
	b.Helper()
	b.update(func(tx *store.Tx) (err error) {
		s, token, err = CreateSession(tx, user, "192.0.2.7", now)
		return err
	})
	return s, token
}

func (b *box) findSession(token string, now time.Time) (s Session, err error) {
	err = b.view(func(tx *store.Tx) error { s, err = FindSession(tx, token, now); return err })
	return s, err
}

// failer is what testing.TB and *rapid.T share.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// wantKind also holds every message to the rule that it names the next step.
func wantKind(t failer, err, kind error, field string) {
	t.Helper()
	var e *Error
	if !errors.Is(err, kind) || !errors.As(err, &e) {
		t.Fatalf("got error %v, want one of kind %v", err, kind)
	}
	if e.Field != field {
		t.Fatalf("error %v is about field %q, want %q", err, e.Field, field)
	}
	if !strings.Contains(e.Message, ": ") {
		t.Fatalf("error %q names no next step", e.Message)
	}
}

func mustNil(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOneEmailInAnySpellingIsOneUser(t *testing.T) {
	b := newBox(t)
	err := b.try(func(tx *store.Tx) error {
		_, err := CreateUser(tx, NewUser{Email: "  Owner@EXAMPLE.com\n"}, start)
		return err
	})
	wantKind(t, err, ErrExists, "email")
	mustNil(t, b.view(func(tx *store.Tx) error {
		u, err := UserByEmail(tx, " OWNER@example.COM ")
		if err == nil && u.ID != b.owner {
			t.Errorf("found user %d, want %d", u.ID, b.owner)
		}
		return err
	}))
}

func TestEmailsThatCanNotBeAddressesAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "@", "a", "a@", "@b.c", "a@b", "a@@b.c", "a@b@c.d", "a b@c.d", ".a@b.c", "a..b@c.d", "a@b..c", "a@.b.c",
		"a@-b.c", "a@b-.c", "a\x00@b.c", "a@b.c,d@e.f", "Al <a@b.c>", "ä@b.c", "a@bücher.de", "a@b_c.de",
		"\u212aelvin@b.c", // the Kelvin sign, which lower-cases to k
		strings.Repeat("a", 65) + "@b.c", "a@" + strings.Repeat("b", 64) + ".c", "a@" + strings.Repeat("b.", 130) + "c",
	} {
		_, err := NormalizeEmail(s)
		wantKind(t, err, ErrInvalid, "email")
	}
	for s, want := range map[string]string{
		"A.B+c@X-1.Example.ORG": "a.b+c@x-1.example.org", "root@localhost": "root@localhost", "o'neil@b.ie ": "o'neil@b.ie",
	} {
		if got, err := NormalizeEmail(s); err != nil || got != want {
			t.Errorf("NormalizeEmail(%q) = %q, %v", s, got, err)
		}
	}
}

func TestAPasswordIsNotTakenForItsHash(t *testing.T) {
	b := newBox(t)
	err := b.try(func(tx *store.Tx) error {
		_, err := CreateUser(tx, NewUser{Email: "a@b.cd", PasswordHash: "correct horse battery"}, start)
		return err
	})
	wantKind(t, err, ErrInvalid, "password")
}

func TestNamesAreTrimmedAndMustBeShowable(t *testing.T) {
	b := newBox(t)
	for _, name := range []string{"", "  ", "a\x1b[31m", "a\nb", "\xff", strings.Repeat("x", 101)} {
		err := b.try(func(tx *store.Tx) error { _, err := CreateAccount(tx, name, start); return err })
		wantKind(t, err, ErrInvalid, "name")
	}
	b.update(func(tx *store.Tx) error {
		a, err := CreateAccount(tx, " Ökologie 🌱 ", start)
		if err == nil && a.Name != "Ökologie 🌱" {
			t.Errorf("name %q", a.Name)
		}
		return err
	})
}

func TestMembershipIsSeenFromBothSides(t *testing.T) {
	b := newBox(t)
	mustNil(t, b.view(func(tx *store.Tx) error {
		members, err := MembersOf(tx, b.account)
		mustNil(t, err)
		want := []Membership{{b.account, b.owner, RoleOwner}, {b.account, b.member, RoleMember}}
		if !slices.Equal(members, want) {
			t.Errorf("members %v, want %v", members, want)
		}
		theirs, err := MembershipsOf(tx, b.member)
		mustNil(t, err)
		if !slices.Equal(theirs, want[1:]) {
			t.Errorf("memberships %v, want %v", theirs, want[1:])
		}
		_, err = RoleIn(tx, b.account+1, b.owner)
		wantKind(t, err, ErrNotFound, "")
		return nil
	}))
	for _, c := range []struct {
		account AccountID
		user    UserID
		role    Role
		kind    error
		field   string
	}{
		{b.account, b.member, RoleOwner, ErrExists, "user"},
		{b.account, b.member, "admin", ErrInvalid, "role"},
		{b.account + 1, b.member, RoleMember, ErrNotFound, ""},
		{b.account, 99, RoleMember, ErrNotFound, ""},
	} {
		wantKind(t, b.try(func(tx *store.Tx) error { return AddMember(tx, c.account, c.user, c.role) }), c.kind, c.field)
	}
}

func TestTheLastOwnerStays(t *testing.T) {
	b := newBox(t)
	wantKind(t, b.try(func(tx *store.Tx) error { return RemoveMember(tx, b.account, b.owner) }), ErrConflict, "")
	wantKind(t, b.try(func(tx *store.Tx) error { return SetRole(tx, b.account, b.owner, RoleMember) }), ErrConflict, "")
	b.update(func(tx *store.Tx) error { return SetRole(tx, b.account, b.member, RoleOwner) })
	b.update(func(tx *store.Tx) error { return RemoveMember(tx, b.account, b.owner) })
	wantKind(t, b.try(func(tx *store.Tx) error { return RemoveMember(tx, b.account, b.member) }), ErrConflict, "")
	mustNil(t, b.view(func(tx *store.Tx) error {
		left, err := MembershipsOf(tx, b.owner)
		if len(left) != 0 {
			t.Errorf("a removed member is still in %v", left)
		}
		return err
	}))
}

func TestAPlainMemberCanLeave(t *testing.T) {
	b := newBox(t)
	b.update(func(tx *store.Tx) error { return RemoveMember(tx, b.account, b.member) })
}

func TestListsOfUsersAndAccountsArePaged(t *testing.T) {
	b := newBox(t)
	mustNil(t, b.view(func(tx *store.Tx) error {
		first, err := ListUsers(tx, 1, 0)
		mustNil(t, err)
		rest, err := ListUsers(tx, 10, first[0].ID)
		mustNil(t, err)
		if len(first) != 1 || len(rest) != 1 || first[0].ID != b.owner || rest[0].ID != b.member {
			t.Errorf("pages %v and %v", first, rest)
		}
		accts, err := ListAccounts(tx, 0, 0)
		if len(accts) != 1 {
			t.Errorf("accounts %v", accts)
		}
		return err
	}))
}

func TestAKeyIsFoundByItsSecretUntilItIsRevoked(t *testing.T) {
	b := newBox(t)
	k, secret := b.key("laptop")
	if !LooksLikeKey(secret) || !strings.HasPrefix(secret, k.Prefix) || len(k.Prefix) != 10 {
		t.Errorf("secret %q, prefix %q", secret, k.Prefix)
	}
	got, err := b.find(secret)
	mustNil(t, err)
	if got != k {
		t.Errorf("found %+v, want %+v", got, k)
	}
	wantKind(t, b.try(func(tx *store.Tx) error { return RevokeKey(tx, b.account+1, k.ID, start) }), ErrNotFound, "")
	b.update(func(tx *store.Tx) error {
		mustNil(t, RevokeKey(tx, b.account, k.ID, start.Add(time.Hour)))
		_, err := FindKey(tx, secret)
		wantKind(t, err, ErrUnauthorized, "") // in the same transaction already
		return nil
	})
	b.update(func(tx *store.Tx) error { return RevokeKey(tx, b.account, k.ID, start.Add(2*time.Hour)) })
	_, err = b.find(secret)
	wantKind(t, err, ErrUnauthorized, "")
	mustNil(t, b.view(func(tx *store.Tx) error {
		list, err := ListKeys(tx, b.account)
		mustNil(t, err)
		if len(list) != 0 {
			t.Errorf("a revoked key is listed: %v", list)
		}
		old, err := KeyByID(tx, b.account, k.ID)
		if !old.Revoked.Equal(start.Add(time.Hour)) {
			t.Errorf("revoked at %v, want the first time", old.Revoked)
		}
		return err
	}))
}

func TestUnknownAndRevokedKeysGetTheSameAnswer(t *testing.T) {
	b := newBox(t)
	k, revoked := b.key("old")
	b.update(func(tx *store.Tx) error { return RevokeKey(tx, b.account, k.ID, start) })
	_, want := b.find(revoked)
	for _, s := range []string{"", "eco_", newKeySecret(), strings.ToUpper(revoked), revoked + "A", " " + revoked} {
		_, err := b.find(s)
		wantKind(t, err, ErrUnauthorized, "")
		if err.Error() != want.Error() {
			t.Errorf("%q: %v, want %v", s, err, want)
		}
	}
}

func TestOnlyOwnersMakeKeys(t *testing.T) {
	b := newBox(t)
	create := func(user UserID) error {
		return b.try(func(tx *store.Tx) error {
			_, _, err := CreateKey(tx, b.account, user, "k", "", start)
			return err
		})
	}
	wantKind(t, create(b.member), ErrForbidden, "")
	wantKind(t, create(99), ErrNotFound, "")
}

func TestAKeyOutlivesItsCreatorsMembership(t *testing.T) {
	b := newBox(t)
	_, secret := b.key("ci")
	b.update(func(tx *store.Tx) error {
		mustNil(t, SetRole(tx, b.account, b.member, RoleOwner))
		return RemoveMember(tx, b.account, b.owner)
	})
	_, err := b.find(secret)
	mustNil(t, err)
}

func TestLastUseIsWrittenAtMostOnceAMinute(t *testing.T) {
	b := newBox(t)
	k, secret := b.key("laptop")
	watch := b.db.Watch(KeysBucket)
	defer watch.Close()
	first := start.Add(time.Hour)
	for _, c := range []struct{ at, want time.Time }{
		{first, first},
		{first.Add(59 * time.Second), first},
		{first.Add(-time.Hour), first},
		{first.Add(time.Minute), first.Add(time.Minute)},
	} {
		b.update(func(tx *store.Tx) error { return TouchKey(tx, k.ID, c.at) })
		got, err := b.find(secret)
		mustNil(t, err)
		if !got.LastUsed.Equal(c.want) {
			t.Errorf("touched at %v: last used %v, want %v", c.at, got.LastUsed, c.want)
		}
	}
	if ch := watch.Take(); len(ch) != 0 {
		t.Errorf("touching woke the watchers of keys: %v", ch)
	}
	b.update(func(tx *store.Tx) error { return RevokeKey(tx, b.account, k.ID, first) })
	if ch := watch.Take(); len(ch) != 1 || ChangedKey(ch[0]) != k.ID {
		t.Errorf("after the revocation watchers got %v", ch)
	}
	wantKind(t, b.try(func(tx *store.Tx) error { return TouchKey(tx, 99, first) }), ErrNotFound, "")
}

func TestAnAccountHasALimitOfLiveKeys(t *testing.T) {
	b := newBox(t)
	b.update(func(tx *store.Tx) error {
		for range maxKeysPerAccount {
			_, _, err := CreateKey(tx, b.account, b.owner, "k", "", start)
			mustNil(t, err)
		}
		_, _, err := CreateKey(tx, b.account, b.owner, "k", "", start)
		wantKind(t, err, ErrConflict, "")
		mustNil(t, RevokeKey(tx, b.account, 1, start))
		_, _, err = CreateKey(tx, b.account, b.owner, "k", "", start)
		return err
	})
}
