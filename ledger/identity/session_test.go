package identity

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/store"
)

func TestASessionEndsWhenIdleAndAtItsAbsoluteAge(t *testing.T) {
	b := newBox(t)
	made, token := b.session(b.member, start)
	got, err := b.findSession(token, start.Add(SessionIdle-time.Nanosecond))
	mustNil(t, err)
	if got != made || got.User != b.member {
		t.Errorf("found %+v, want %+v", got, made)
	}
	_, err = b.findSession(token, start.Add(SessionIdle))
	wantKind(t, err, ErrUnauthorized, "")

	at := start // a visitor of every week is signed out by age alone
	for ; at.Before(start.Add(SessionAbsolute)); at = at.Add(7 * 24 * time.Hour) {
		b.update(func(tx *store.Tx) error { return TouchSession(tx, token, at) })
	}
	_, err = b.findSession(token, start.Add(SessionAbsolute-time.Nanosecond))
	mustNil(t, err)
	_, err = b.findSession(token, start.Add(SessionAbsolute))
	wantKind(t, err, ErrUnauthorized, "")
	wantKind(t, b.try(func(tx *store.Tx) error { return TouchSession(tx, token, at) }), ErrUnauthorized, "")
}

func TestASessionsFormsCarryItsOwnToken(t *testing.T) {
	b := newBox(t)
	mine, token := b.session(b.member, start)
	other, _ := b.session(b.member, start)
	again, err := b.findSession(token, start)
	mustNil(t, err)
	mustNil(t, again.CheckCSRF(mine.CSRFToken()))
	for _, bad := range []string{"", token, other.CSRFToken()} {
		wantKind(t, again.CheckCSRF(bad), ErrForbidden, "")
	}
	wantKind(t, Session{}.CheckCSRF(""), ErrForbidden, "")
}

func TestSigningOutEndsOneSessionOrAll(t *testing.T) {
	b := newBox(t)
	_, one := b.session(b.member, start)
	_, two := b.session(b.member, start)
	_, three := b.session(b.member, start)
	_, others := b.session(b.owner, start)
	b.update(func(tx *store.Tx) error { return DeleteSession(tx, one) })
	b.update(func(tx *store.Tx) error { return DeleteSession(tx, one) })
	_, err := b.findSession(one, start)
	wantKind(t, err, ErrUnauthorized, "")
	_, err = b.findSession(two, start)
	mustNil(t, err)
	b.update(func(tx *store.Tx) error { return DeleteAllSessions(tx, b.member) })
	for _, token := range []string{two, three} {
		_, err := b.findSession(token, start)
		wantKind(t, err, ErrUnauthorized, "")
	}
	_, err = b.findSession(others, start)
	mustNil(t, err)
}

func TestANewPasswordSignsOutEverywhere(t *testing.T) {
	b := newBox(t)
	_, token := b.session(b.member, start)
	b.update(func(tx *store.Tx) error { return SetPassword(tx, b.member, anyHash) })
	_, err := b.findSession(token, start)
	wantKind(t, err, ErrUnauthorized, "")
	wantKind(t, b.try(func(tx *store.Tx) error { return SetPassword(tx, b.member, "") }), ErrInvalid, "password")
}

func TestAUsersSessionsDoNotPileUp(t *testing.T) {
	b := newBox(t)
	_, oldest := b.session(b.member, start)
	_, second := b.session(b.member, start.Add(time.Second))
	b.update(func(tx *store.Tx) error {
		for i := range maxSessionsPerUser - 1 {
			_, _, err := CreateSession(tx, b.member, "", start.Add(time.Duration(i+2)*time.Second))
			mustNil(t, err)
		}
		return nil
	})
	_, err := b.findSession(oldest, start)
	wantKind(t, err, ErrUnauthorized, "")
	_, err = b.findSession(second, start)
	mustNil(t, err)
	b.session(b.member, start.Add(SessionAbsolute))
	mustNil(t, b.view(func(tx *store.Tx) error {
		left, err := sessionsOf(tx, b.member)
		if len(left) != 1 {
			t.Errorf("%d sessions are kept, want the new one only", len(left))
		}
		return err
	}))
}

func TestTheSetUpLinkMakesOneOperatorOnce(t *testing.T) {
	b := &box{TB: t, db: newStore(t)}
	newToken := func() (token string, err error) {
		err = b.try(func(tx *store.Tx) error { token, err = CreateSetupToken(tx, start); return err })
		return token, err
	}
	var made Bootstrapped
	open := func(token, email string, now time.Time) error {
		return b.try(func(tx *store.Tx) (err error) {
			if err := UseSetupToken(tx, token, now); err != nil {
				return err
			}
			made, err = Bootstrap(tx, FirstOperator{"Lab", NewUser{Email: email, PasswordHash: anyHash}, "first"}, now)
			return err
		})
	}
	wantKind(t, open("", "op@example.com", start), ErrUnauthorized, "")
	replaced, err := newToken()
	mustNil(t, err)
	token, err := newToken()
	mustNil(t, err)
	wantKind(t, open(replaced, "op@example.com", start), ErrUnauthorized, "")
	wantKind(t, open(token, "op@example.com", start.Add(SetupTokenLife)), ErrUnauthorized, "")
	wantKind(t, open(token, "not an address", start), ErrInvalid, "email")
	mustNil(t, b.view(func(tx *store.Tx) error { return CheckSetupToken(tx, token, start) }))
	mustNil(t, open(token, "op@example.com", start)) // the failure had not used it up

	if !made.User.Operator || made.Key.Account != made.Account.ID {
		t.Errorf("made %+v", made)
	}
	k, err := b.find(made.Secret)
	mustNil(t, err)
	mustNil(t, b.view(func(tx *store.Tx) error {
		role, err := RoleIn(tx, k.Account, k.Creator)
		if role != RoleOwner {
			t.Errorf("the operator is %q in the first account", role)
		}
		return err
	}))
	wantKind(t, open(token, "op2@example.com", start), ErrUnauthorized, "")
	_, err = newToken()
	wantKind(t, err, ErrExists, "")
	wantKind(t, b.try(func(tx *store.Tx) error {
		_, err := Bootstrap(tx, FirstOperator{"Lab", NewUser{Email: "op3@example.com"}, "k"}, start)
		return err
	}), ErrExists, "")
}

func TestAnOperatorMadeByHandEndsSetUp(t *testing.T) {
	b := newBox(t)
	var token string
	b.update(func(tx *store.Tx) (err error) { token, err = CreateSetupToken(tx, start); return err })
	b.update(func(tx *store.Tx) error {
		_, err := CreateUser(tx, NewUser{Email: "op@example.com", Operator: true}, start)
		return err
	})
	wantKind(t, b.view(func(tx *store.Tx) error { return CheckSetupToken(tx, token, start) }), ErrUnauthorized, "")
}

func TestTheAuditLogIsReadNewestFirstInPages(t *testing.T) {
	b := newBox(t)
	other := b.account + 1
	b.update(func(tx *store.Tx) error {
		for i, account := range []AccountID{b.account, other, b.account, 0, b.account} {
			err := Record(tx, Event{
				At: start.Add(time.Duration(i) * time.Second), Actor: UserActor(b.owner), Action: "key.create",
				Resource: "key:1", Account: account, From: "192.0.2.7", Detail: strings.Repeat("é", maxAuditDetailBytes),
			})
			mustNil(t, err)
		}
		return nil
	})
	list := func(account AccountID, limit int, before EventID) (ids []EventID) {
		t.Helper()
		mustNil(t, b.view(func(tx *store.Tx) error {
			ids = nil
			page, err := ListAudit(tx, account, limit, before)
			for _, e := range page {
				ids = append(ids, e.ID)
				if e.Account != account || len(e.Detail) > maxAuditDetailBytes {
					t.Errorf("event %+v in the log of account %d", e, account)
				}
			}
			return err
		}))
		return ids
	}
	for _, c := range []struct {
		account AccountID
		limit   int
		before  EventID
		want    []EventID
	}{
		{b.account, 2, 0, []EventID{5, 3}},
		{b.account, 2, 3, []EventID{1}},
		{b.account, 0, 1, nil},
		{other, 10, 0, []EventID{2}},
		{0, 10, 0, nil}, // the box's events are no account's
		{other + 1, 10, 0, nil},
	} {
		if got := list(c.account, c.limit, c.before); !slices.Equal(got, c.want) {
			t.Errorf("account %d, limit %d, before %d: %v, want %v", c.account, c.limit, c.before, got, c.want)
		}
	}
	mustNil(t, b.view(func(tx *store.Tx) error {
		all, err := ListAllAudit(tx, 4, 0)
		mustNil(t, err)
		rest, err := ListAllAudit(tx, 4, all[3].ID)
		if len(all) != 4 || all[0].ID != 5 || len(rest) != 1 || rest[0].ID != 1 {
			t.Errorf("whole log: %v and %v", all, rest)
		}
		return err
	}))
	for field, e := range map[string]Event{
		"at": {Actor: System, Action: "a"}, "actor": {At: start, Action: "a"}, "action": {At: start, Actor: System},
	} {
		wantKind(t, b.try(func(tx *store.Tx) error { return Record(tx, e) }), ErrInvalid, field)
	}
}
