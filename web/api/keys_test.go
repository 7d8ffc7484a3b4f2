package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

func TestMeTellsWhoseKeyItIs(t *testing.T) {
	b := newBox(t)
	b.call(b.alice, "GET", "/v1/me", nil).want(200).has(
		"account.id", b.alice.account, "account.name", "alice", "user.id", b.alice.user, "user.email", "alice@example.org", "user.operator", false,
		"key.id", b.alice.key, "key.name", "first")
}

// audit lists what is in the party's audit log, newest first, and checks that each
// event names their key and address; a dispute names nobody.
func (b *box) audit(p party) (actions []string) {
	b.t.Helper()
	err := b.store.View(func(tx *store.Tx) error {
		all, err := identity.ListAudit(tx, p.account, 100, 0)
		for _, e := range all {
			by, from := identity.KeyActor(p.key), "127.0.0.1"
			if e.Action == "ssh-key.dispute" {
				by, from = identity.System, ""
			}
			if e.Actor != by || e.From != from {
				b.t.Errorf("event %+v", e)
			}
			actions = append(actions, e.Action+" "+e.Resource)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return actions
}

func TestKeyIsShownOnceWorksAndStopsWhenRevoked(t *testing.T) {
	b := newBox(t)
	r := b.call(b.alice, "POST", "/v1/api-keys", object{"name": "nightly", "tag": "ci"}).want(201).has("name", "nightly", "tag", "ci", "created_by", b.alice.user, "last_used_at", nil)
	second := party{secret: r.at("secret").(string)}
	path := fmt.Sprintf("/v1/api-keys/%v", r.at("id"))
	b.call(second, "GET", "/v1/me", nil).want(200).has("account.id", b.alice.account)
	list := b.call(b.alice, "GET", "/v1/api-keys", nil).want(200).has("data.0.name", "first", "data.1.name", "nightly", "next_cursor", nil)
	if strings.Contains(list.raw, second.secret) || strings.Contains(list.raw, "secret") {
		t.Error("the list shows a secret")
	}
	if list.at("data.1.last_used_at") == nil || !strings.HasPrefix(second.secret, list.at("data.1.prefix").(string)) {
		t.Errorf("%v", list.at("data.1"))
	}
	b.call(b.bob, "DELETE", path, nil).refused(404, "not_found", "")
	for range 2 {
		if r := b.call(b.alice, "DELETE", path, nil).want(204); r.raw != "" {
			t.Errorf("204 with %q", r.raw)
		}
	}
	b.call(second, "GET", "/v1/me", nil).want(401)
	if got := fmt.Sprint(b.audit(b.alice)); got != "[key.revoke key:3 key.create key:3]" {
		t.Errorf("audit: %s", got)
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	b := newBox(t)
	b.call(b.alice, "POST", "/v1/api-keys", object{"name": " "}).refused(422, "unprocessable", "name")
	b.call(b.alice, "POST", "/v1/api-keys", object{"name": strings.Repeat("n", 101)}).refused(422, "unprocessable", "name")
	b.call(b.alice, "POST", "/v1/api-keys", object{}).refused(422, "unprocessable", "name")
	b.call(b.alice, "POST", "/v1/api-keys", object{"name": "n", "cap": "1"}).refused(422, "unprocessable", "cap")
	b.call(b.alice, "POST", "/v1/api-keys", object{"name": "n"}, "Idempotency-Key", "k").refused(400, "invalid_request", "Idempotency-Key")
	b.call(b.alice, "DELETE", "/v1/api-keys/99", nil).refused(404, "not_found", "")
	if got := b.audit(b.alice); len(got) != 0 {
		t.Errorf("audit: %v", got)
	}
}

// A key outlives its maker's role; what only owners may do is not in it then.
func TestKeyOfOneWhoIsNoOwnerMakesAndRevokesNone(t *testing.T) {
	b := newBox(t)
	b.update(func(tx *store.Tx) error {
		u, err := identity.CreateUser(tx, identity.NewUser{Email: "dora@example.org"}, time.Now())
		if err != nil {
			return err
		}
		if err := identity.AddMember(tx, b.alice.account, u.ID, identity.RoleOwner); err != nil {
			return err
		}
		return identity.SetRole(tx, b.alice.account, b.alice.user, identity.RoleMember)
	})
	refuse := func() {
		t.Helper()
		b.call(b.alice, "POST", "/v1/api-keys", object{"name": "n"}).refused(403, "forbidden", "")
		b.call(b.alice, "DELETE", fmt.Sprintf("/v1/api-keys/%d", b.alice.key), nil).refused(403, "forbidden", "")
	}
	refuse()
	b.update(func(tx *store.Tx) error { return identity.RemoveMember(tx, b.alice.account, b.alice.user) })
	refuse()
	b.call(b.alice, "GET", "/v1/gpu-instances", nil).want(200)
}

func TestStatementShowsEveryMovementNewestFirst(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	b.call(b.alice, "POST", path+"/extend", object{"hours": 1}).want(200)
	r := b.call(b.alice, "GET", "/v1/billing/transactions?limit=2", nil).want(200).has(
		"data.0.id", 3, "data.0.type", "hold", "data.0.amount", "-1.60", "data.0.balance_after", "95.20", "data.0.held_after", "4.80",
		"data.0.resource", "gpu-instance/1", "data.0.hold_id", 1, "data.1.amount", "-3.20", "next_cursor", "2")
	if id := r.at("data.0.request_id").(string); !strings.HasPrefix(id, "req_") {
		t.Errorf("request id %q", id)
	}
	b.call(b.alice, "GET", "/v1/billing/transactions?limit=2&cursor=2", nil).want(200).has(
		"data.0.type", "topup", "data.0.amount", "100.00", "data.0.description", "invoice 1", "data.0.hold_id", nil, "data.0.resource", "", "next_cursor", nil)
	b.call(b.bob, "GET", "/v1/billing/transactions", nil).want(200).has("data", []any{})
}
