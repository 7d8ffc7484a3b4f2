package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// somePublicKey is nobody's: its private half was thrown away.
const (
	somePublicKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKy8Hp8WPJe1AS6I+WVu/lB6R+gB7xXSovCXpHyMqMsT"
	someFingerprint = "SHA256:i9PTDgq6+0Z0Yod1OnRzUwsppddplrzD7Aab+jas6hI"
)

func TestSSHKeysOfTheAPIOpenTheKeysOwnAccount(t *testing.T) {
	b := newBox(t)
	const path = "/v1/users/me/ssh-keys"
	b.call(b.alice, "GET", path, nil).want(200).has("data", []any{})
	r := b.call(b.alice, "POST", path, object{"public_key": somePublicKey + " alice@laptop\n"}).want(201).has(
		"name", "alice@laptop", "type", "ssh-ed25519", "fingerprint", someFingerprint, "public_key", somePublicKey, "this_account", true, "last_used_at", nil)
	id := fmt.Sprintf("%s/%v", path, r.at("id"))
	b.call(b.alice, "POST", path, object{"public_key": somePublicKey}).refused(409, "conflict", "public_key")
	b.call(b.alice, "POST", path, object{"public_key": "ssh-ed25519 AAAA"}).refused(422, "unprocessable", "public_key")
	b.call(b.alice, "POST", path, object{"public_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}).refused(422, "unprocessable", "public_key")
	b.call(b.bob, "DELETE", id, nil).refused(404, "not_found", "")
	b.call(b.bob, "POST", path, object{"public_key": somePublicKey}).refused(409, "conflict", "public_key")
	if got := fmt.Sprint(b.opens()); got != fmt.Sprintf("[%d]", b.alice.account) {
		t.Errorf("it opens accounts %s", got)
	}
	b.call(b.alice, "DELETE", id, nil).want(204)
	b.call(b.alice, "DELETE", id, nil).refused(404, "not_found", "")
	if got := fmt.Sprint(b.audit(b.alice)); got != fmt.Sprintf("[ssh-key.remove ssh-key:%v ssh-key.add ssh-key:%v]", r.at("id"), r.at("id")) {
		t.Errorf("audit: %s", got)
	}
}

// opens lists the accounts that the key opens.
func (b *box) opens() (accounts []identity.AccountID) {
	b.t.Helper()
	err := b.store.View(func(tx *store.Tx) error {
		all, err := identity.AccountsOpenTo(tx, someFingerprint)
		for a := range all {
			accounts = append(accounts, a)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return accounts
}

// releaseKey takes somePublicKey out of the profile that it is in, for the next.
func (b *box) releaseKey() {
	b.t.Helper()
	b.update(func(tx *store.Tx) error {
		k, ok, err := identity.SSHKeyWithFingerprint(tx, someFingerprint)
		if err != nil || !ok {
			return err
		}
		return identity.RemoveSSHKey(tx, k.User, k.ID)
	})
}

// An API key stands for one account: it must not take away what opens others.
func TestAKeyForAllAccountsIsShownAndNotRemovedByTheAPI(t *testing.T) {
	b := newBox(t)
	b.update(func(tx *store.Tx) error {
		_, err := identity.AddSSHKey(tx, b.alice.user, 0, "laptop", somePublicKey, time.Now())
		return err
	})
	r := b.call(b.alice, "GET", "/v1/users/me/ssh-keys", nil).want(200).has("data.0.name", "laptop", "data.0.this_account", false)
	b.call(b.alice, "DELETE", fmt.Sprintf("/v1/users/me/ssh-keys/%v", r.at("data.0.id")), nil).refused(403, "forbidden", "")
	if len(b.opens()) != 1 {
		t.Error("it was removed all the same")
	}
}

func TestALaunchTakesPublicKeysAndShowsThem(t *testing.T) {
	b := newBox(t)
	body := launchBody("trainer", 1)
	body["ssh_public_key"] = "# ours\n" + somePublicKey + " guest\n"
	b.call(b.alice, "POST", "/v1/gpu-instances", body).want(201).has("ssh_public_key", somePublicKey+" guest")
	body["name"], body["ssh_public_key"] = "second", strings.Repeat("x", 100)
	b.call(b.alice, "POST", "/v1/gpu-instances", body).refused(422, "unprocessable", "ssh_public_key")
	b.call(b.alice, "GET", "/v1/ssh", nil).want(200).has("enabled", false, "port", 0)
}
