package identity

import (
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 a key of a kind that must be refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"ecolink/ledger/store"
)

// lineOf is a public key as authorized_keys has it.
func lineOf(t testing.TB, public crypto.PublicKey) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func newLine(t testing.TB) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return lineOf(t, public)
}

func rsaLine(t testing.TB, bits int) string {
	t.Helper()
	n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1) // only its length is looked at
	return lineOf(t, &rsa.PublicKey{N: n, E: 65537})
}

func (b *box) addSSHKey(user UserID, account AccountID, line string) (k SSHKey, err error) {
	err = b.try(func(tx *store.Tx) (err error) { k, err = AddSSHKey(tx, user, account, "", line, start); return err })
	return k, err
}

func (b *box) opens(fingerprint string) map[AccountID]SSHKey {
	b.Helper()
	var out map[AccountID]SSHKey
	if err := b.view(func(tx *store.Tx) (err error) { out, err = AccountsOpenTo(tx, fingerprint); return err }); err != nil {
		b.Fatal(err)
	}
	return out
}

func TestPublicKeysOfTheUsualKindsAreTaken(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{newLine(t), lineOf(t, &ec.PublicKey), rsaLine(t, 3072), rsaLine(t, 2048)}
	text := "# mine\n\r\n" + lines[0] + " ana@laptop\r\n" + lines[1] + "\n  " + lines[2] + " \x1b[31mred\n" + lines[3]
	keys, err := ParseSSHKeys("ssh_public_key", text)
	if err != nil || len(keys) != len(lines) {
		t.Fatalf("%v: %v", keys, err)
	}
	for n, k := range keys {
		if k.Line != lines[n] || !strings.HasPrefix(k.Fingerprint, "SHA256:") {
			t.Errorf("key %d is %+v", n, k)
		}
	}
	if keys[0].Comment != "ana@laptop" || keys[0].Text() != lines[0]+" ana@laptop" || keys[2].Comment != "[31mred" {
		t.Errorf("comments %q, %q", keys[0].Comment, keys[2].Comment)
	}
}

func TestPublicKeysThatAreNoneAreRefusedWithTheReason(t *testing.T) {
	weak := lineOf(t, &dsa.PublicKey{Parameters: dsa.Parameters{P: new(big.Int).SetBit(big.NewInt(1), 1023, 1), Q: new(big.Int).SetBit(big.NewInt(1), 159, 1), G: big.NewInt(2)}, Y: big.NewInt(4)})
	good := newLine(t)
	many := make([]string, maxSSHKeysAtOnce+1)
	for n := range many {
		many[n] = newLine(t)
	}
	for text, why := range map[string]string{
		"":                   "no public key",
		"# only a comment\n": "no public key",
		"hello":              "not a public SSH key",
		good[:40]:            "not a public SSH key",
		"ssh-ed25519 AAAA":   "not a public SSH key",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n": "private key",
		`command="rm -rf /" ` + good:                  "options in front",
		good + "\n" + good + " again":                 "twice",
		weak:                                          "ssh-dss",
		rsaLine(t, 1024):                              "1024 bits",
		rsaLine(t, 16384):                             "16384 bits",
		strings.Repeat("x", maxSSHKeyBytes+1):         "bytes at most",
		strings.Join(many, "\n"):                      "more than 16 keys",
	} {
		keys, err := ParseSSHKeys("ssh_public_key", text)
		if err == nil {
			t.Errorf("%.60q gave %v", text, keys)
			continue
		}
		wantKind(t, err, ErrInvalid, "ssh_public_key")
		if !strings.Contains(err.Error(), why) {
			t.Errorf("%.60q is refused with %q, want %q", text, err, why)
		}
	}
}

func TestASSHKeyOpensTheAccountsThatItsUserIsIn(t *testing.T) {
	b := newBox(t)
	k, err := b.addSSHKey(b.member, 0, newLine(t)+" member@laptop")
	if err != nil || k.Name != "member@laptop" || k.Type != "ssh-ed25519" {
		t.Fatalf("%+v, %v", k, err)
	}
	if got := b.opens(k.Fingerprint); len(got) != 1 || got[b.account].ID != k.ID {
		t.Errorf("opens %v", got)
	}
	var other AccountID
	b.update(func(tx *store.Tx) error {
		a, err := CreateAccount(tx, "Teaching", start)
		if err != nil {
			return err
		}
		other = a.ID
		return AddMember(tx, a.ID, b.member, RoleOwner)
	})
	if got := b.opens(k.Fingerprint); len(got) != 2 || got[other].ID != k.ID {
		t.Errorf("in two accounts it opens %v", got)
	}
	b.update(func(tx *store.Tx) error { return RemoveMember(tx, b.account, b.member) })
	if got := b.opens(k.Fingerprint); len(got) != 1 || got[other].ID != k.ID {
		t.Errorf("after leaving one it opens %v", got)
	}
	b.update(func(tx *store.Tx) error { return RemoveSSHKey(tx, b.member, k.ID) })
	if got := b.opens(k.Fingerprint); len(got) != 0 {
		t.Errorf("removed, it opens %v", got)
	}
	wantKind(t, b.try(func(tx *store.Tx) error { return RemoveSSHKey(tx, b.member, k.ID) }), ErrNotFound, "")
	if _, err := b.addSSHKey(b.member, 0, k.Line); err != nil {
		t.Errorf("it can't come back: %v", err)
	}
}

func TestASSHKeyOfOneAccountOpensThatOneAlone(t *testing.T) {
	b := newBox(t)
	var other AccountID
	b.update(func(tx *store.Tx) error {
		a, err := CreateAccount(tx, "Teaching", start)
		if err != nil {
			return err
		}
		other = a.ID
		return AddMember(tx, a.ID, b.member, RoleMember)
	})
	k, err := b.addSSHKey(b.member, other, newLine(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := b.opens(k.Fingerprint); len(got) != 1 || got[other].ID != k.ID {
		t.Errorf("opens %v", got)
	}
	_, err = b.addSSHKey(b.owner, other, newLine(t))
	wantKind(t, err, ErrNotFound, "") // the owner is not in it
}

func TestASSHKeyBelongsToItsUser(t *testing.T) {
	b := newBox(t)
	line := newLine(t)
	k, err := b.addSSHKey(b.member, 0, line)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.addSSHKey(b.member, 0, line+" again")
	wantKind(t, err, ErrExists, "public_key")
	wantKind(t, b.try(func(tx *store.Tx) error { return RemoveSSHKey(tx, b.owner, k.ID) }), ErrNotFound, "")
	for n := 1; n < maxSSHKeysPerUser; n++ {
		if _, err := b.addSSHKey(b.member, 0, newLine(t)); err != nil {
			t.Fatalf("key %d: %v", n+1, err)
		}
	}
	_, err = b.addSSHKey(b.member, 0, newLine(t))
	wantKind(t, err, ErrConflict, "")
	var all []SSHKey
	if err := b.view(func(tx *store.Tx) (err error) { all, err = ListSSHKeys(tx, b.member); return err }); err != nil || len(all) != maxSSHKeysPerUser {
		t.Errorf("%d keys, %v", len(all), err)
	}
}

// Public keys are public: who adds another's must not come to share it.
func TestASSHKeyIsInOneProfileAtMost(t *testing.T) {
	b := newBox(t)
	line := newLine(t)
	k, err := b.addSSHKey(b.member, b.account, line)
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range []AccountID{0, b.account} {
		_, err = b.addSSHKey(b.owner, account, line+" mine")
		wantKind(t, err, ErrUnproven, "public_key")
		if err == nil || !strings.Contains(err.Error(), "this key is in another profile already, without a proof") {
			t.Errorf("it is refused with %v", err)
		}
	}
	_, err = b.addSSHKey(b.member, 0, line)
	wantKind(t, err, ErrExists, "public_key") // their own is another refusal
	if err == nil || !strings.Contains(err.Error(), "you have the key") {
		t.Errorf("their own is refused with %v", err)
	}
	if got := b.opens(k.Fingerprint); len(got) != 1 || got[b.account].ID != k.ID {
		t.Errorf("opens %v", got)
	}
	b.update(func(tx *store.Tx) error { return RemoveSSHKey(tx, b.member, k.ID) })
	if _, err := b.addSSHKey(b.owner, 0, line); err != nil {
		t.Errorf("it is not free once it was removed: %v", err)
	}
}

// A ledger may be older than that rule.
func TestOfAKeyInSeveralProfilesTheFirstCounts(t *testing.T) {
	b := newBox(t)
	first, err := b.addSSHKey(b.member, 0, newLine(t)) // whose number is the greater
	if err != nil {
		t.Fatal(err)
	}
	second := first
	second.ID, second.User = first.ID+1, b.owner
	b.update(func(tx *store.Tx) error {
		if err := sshKeys.Put(tx, second.ID, second); err != nil {
			return err
		}
		return sshKeyHolders.Put(tx, holderOf(second.Fingerprint, second.User), second.ID)
	})
	if got := b.opens(first.Fingerprint); len(got) != 1 || got[b.account].ID != first.ID {
		t.Errorf("opens %v", got)
	}
	b.update(func(tx *store.Tx) error { return RemoveSSHKey(tx, b.member, first.ID) })
	if err := b.view(func(tx *store.Tx) error {
		k, ok, err := SSHKeyWithFingerprint(tx, first.Fingerprint)
		if err == nil && (!ok || k.ID != second.ID) {
			t.Errorf("then it is %+v, %v", k, ok)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestUseOfASSHKeyIsNotedByTheMinute(t *testing.T) {
	b := newBox(t)
	k, err := b.addSSHKey(b.member, 0, newLine(t))
	if err != nil {
		t.Fatal(err)
	}
	watch := b.db.Watch(SSHKeysBucket)
	defer watch.Close()
	for _, at := range []time.Duration{time.Hour, time.Hour + time.Second} {
		b.update(func(tx *store.Tx) error { return TouchSSHKey(tx, b.member, k.ID, start.Add(at)) })
	}
	if err := b.view(func(tx *store.Tx) (err error) { k, err = SSHKeyByID(tx, b.member, k.ID); return err }); err != nil || !k.LastUsed.Equal(start.Add(time.Hour)) {
		t.Errorf("last used %v, %v", k.LastUsed, err)
	}
	if changed := watch.Take(); len(changed) > 0 {
		t.Errorf("a log-in makes everybody be checked again: %v", changed)
	}
}

func FuzzSSHKeysAreReadTheSameTwice(f *testing.F) {
	f.Add("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmGkgKgGeWw2XG+0jFBB2fC8xaXYGXtFrTNGRkUQLPa a@b\n")
	f.Add("# x\r\nfrom=\"a,b\",no-pty ssh-rsa AAAAB3NzaC1yc2E= c\n\x00")
	f.Add("ssh-ed25519 AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseSSHKeys("k", text)
		if err != nil {
			wantKind(t, err, ErrInvalid, "k")
			return
		}
		lines := make([]string, len(keys))
		for n, k := range keys {
			lines[n] = k.Text()
			if strings.ContainsAny(lines[n], "\n\r\x00\x1b") {
				t.Errorf("the key is %q", lines[n])
			}
		}
		again, err := ParseSSHKeys("k", strings.Join(lines, "\n"))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(keys) {
			t.Errorf("%v and then %v, %v", keys, again, err)
		}
	})
}
