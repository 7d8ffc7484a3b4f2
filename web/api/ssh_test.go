package api

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	number := r.at("id")
	if got := fmt.Sprint(b.audit(b.alice)); got != fmt.Sprintf("[ssh-key.remove ssh-key:%v ssh-key.dispute ssh-key:%v ssh-key.add ssh-key:%v]", number, number, number) {
		t.Errorf("audit: %s", got)
	}
	if got := fmt.Sprint(b.disputes()); got != fmt.Sprintf("[user:%d ssh-key:%v]", b.bob.user, number) {
		t.Errorf("the operators' audit: %s", got)
	}
}

// newSSHKey is a public key of ssh-keygen's, and what signs with its private half.
func newSSHKey(t *testing.T) (public string, sign func(text, namespace any) string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "laptop", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	raw, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw), func(text, namespace any) string {
		t.Helper()
		cmd := exec.Command("ssh-keygen", "-Y", "sign", "-n", fmt.Sprint(namespace), "-f", file)
		cmd.Stdin = strings.NewReader(fmt.Sprintln(text))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("ssh-keygen -Y sign: %v", err)
		}
		return string(out)
	}
}

func TestAKeyThatAnotherHoldsWithoutAProofIsTakenWithOne(t *testing.T) {
	b := newBox(t)
	const path, challenges = "/v1/users/me/ssh-keys", "/v1/users/me/ssh-key-challenges"
	public, sign := newSSHKey(t)
	b.call(b.bob, "POST", path, object{"public_key": public}).want(201).has("proven_at", nil)
	r := b.call(b.alice, "POST", path, object{"public_key": public}).refused(409, "conflict", "public_key")
	if !strings.Contains(r.raw, challenges) {
		t.Errorf("it does not say what to do: %s", r.raw)
	}
	b.call(b.bob, "GET", path, nil).want(200).has("data.0.name", "laptop") // still
	r = b.call(b.alice, "POST", challenges, object{"public_key": public}).want(201).has("namespace", "ecolink-ssh-key")
	if text := fmt.Sprint(r.at("challenge")); !strings.HasPrefix(text, fmt.Sprintf("ecolink:gpu.example.org:alice@example.org:%v:", r.at("fingerprint"))) {
		t.Errorf("the challenge is %s", text)
	}
	for _, signature := range []string{"x", sign("another text", r.at("namespace")), sign(r.at("challenge"), "file")} {
		b.call(b.alice, "POST", path, object{"public_key": public, "signature": signature}).refused(422, "unprocessable", "signature")
	}
	proof := object{"public_key": public, "signature": sign(r.at("challenge"), r.at("namespace"))}
	b.call(b.bob, "POST", path, proof).refused(422, "unprocessable", "signature") // it is hers alone
	if r = b.call(b.alice, "POST", path, proof).want(201).has("name", "laptop"); r.at("proven_at") == nil {
		t.Errorf("it is not proved: %s", r.raw)
	}
	b.call(b.alice, "POST", path, proof).refused(422, "unprocessable", "signature") // once
	b.call(b.bob, "GET", path, nil).want(200).has("data", []any{})
	b.call(b.bob, "POST", path, object{"public_key": public}).refused(409, "conflict", "public_key")
	b.call(b.bob, "POST", challenges, object{"public_key": public}).refused(409, "conflict", "public_key")
	b.update(func(tx *store.Tx) error {
		newest, err := identity.ListAudit(tx, b.bob.account, 1, 0)
		if err == nil && (newest[0].Action != "ssh-key.taken" || newest[0].From != "") {
			t.Errorf("Bob's audit: %+v", newest)
		}
		return err
	})
	if got := fmt.Sprint(b.audit(b.alice)); !strings.HasPrefix(got, "[ssh-key.prove ssh-key:2") {
		t.Errorf("Alice's audit: %s", got)
	}
}

// disputes lists who has asked for which key, as the operators' audit log has it.
func (b *box) disputes() (asked []string) {
	b.t.Helper()
	err := b.store.View(func(tx *store.Tx) error {
		all, err := identity.ListAllAudit(tx, 100, 0)
		for _, e := range all {
			if e.Account == 0 && e.Action == "ssh-key.dispute" {
				asked = append(asked, fmt.Sprint(e.Actor, " ", e.Resource))
			}
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return asked
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
