package identity

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"ecolink/ledger/store"
)

// keyPair is a key whose private half the test has.
func keyPair(t testing.TB, seed byte) (private ed25519.PrivateKey, line, fingerprint string) {
	t.Helper()
	raw := make([]byte, ed25519.SeedSize)
	raw[0] = seed
	private = ed25519.NewKeyFromSeed(raw)
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return private, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), ssh.FingerprintSHA256(public)
}

func (b *box) challenge(user UserID, line string, now time.Time) (c SSHChallenge, err error) {
	err = b.try(func(tx *store.Tx) (err error) {
		c, err = ChallengeSSHKey(tx, user, "gpu.example.org", line, now)
		return err
	})
	return c, err
}

func (b *box) prove(user UserID, account AccountID, line, signature string, now time.Time) (k SSHKey, err error) {
	err = b.try(func(tx *store.Tx) (err error) {
		k, err = ProveSSHKey(tx, user, account, "", line, signature, now)
		return err
	})
	return k, err
}

// proved asks for a challenge and answers it.
func (b *box) proved(user UserID, private ed25519.PrivateKey, line string) (SSHKey, error) {
	b.Helper()
	c, err := b.challenge(user, line, start)
	if err != nil {
		return SSHKey{}, err
	}
	return b.prove(user, 0, line, signedBy(b, private, c.Text+"\n"), start)
}

func (b *box) holder(fingerprint string) (k SSHKey, disputed bool) {
	b.Helper()
	if err := b.view(func(tx *store.Tx) (err error) {
		if k, _, err = SSHKeyWithFingerprint(tx, fingerprint); err != nil {
			return err
		}
		disputed, err = SSHKeyDisputed(tx, k)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return k, disputed
}

func TestWhoProvesToHaveAKeyTakesItFromWhoHasNot(t *testing.T) {
	b := newBox(t)
	private, line, fingerprint := keyPair(t, 1)
	claimed, err := b.addSSHKey(b.member, 0, line+" stolen")
	if err != nil || claimed.IsProven() {
		t.Fatalf("%+v, %v", claimed, err)
	}
	c, err := b.challenge(b.owner, line, start)
	if err != nil || !strings.HasPrefix(c.Text, "ecolink:gpu.example.org:owner@example.com:"+fingerprint+":") || !c.Expires.Equal(start.Add(SSHChallengeLife)) {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, disputed := b.holder(fingerprint); !disputed {
		t.Error("another wants it, and it is in no dispute")
	}
	k, err := b.prove(b.owner, 0, line+" owner@laptop", signedBy(t, private, c.Text+"\n"), start)
	if err != nil || !k.Proven.Equal(start) || k.User != b.owner || k.Name != "owner@laptop" {
		t.Fatalf("%+v, %v", k, err)
	}
	if now, disputed := b.holder(fingerprint); now.ID != k.ID || disputed {
		t.Errorf("then it is %+v, in dispute: %v", now, disputed)
	}
	if err := b.view(func(tx *store.Tx) error {
		if theirs, err := ListSSHKeys(tx, b.member); err != nil || len(theirs) > 0 {
			t.Errorf("the other still has %v, %v", theirs, err)
		}
		lost, err := ListLostSSHKeys(tx, b.member, start.Add(time.Hour))
		if err != nil || len(lost) != 1 || lost[0].Name != "stolen" || lost[0].Fingerprint != fingerprint {
			t.Errorf("the other is told of %v, %v", lost, err)
		}
		if lost, err := ListLostSSHKeys(tx, b.member, start.Add(lostSSHKeyShown+time.Hour)); err != nil || len(lost) > 0 {
			t.Errorf("for ever: %v, %v", lost, err)
		}
		audit, err := ListAudit(tx, b.account, 1, 0)
		if err != nil || len(audit) != 1 || audit[0].Action != "ssh-key.taken" || audit[0].Actor != System || audit[0].Resource != fmt.Sprintf("ssh-key:%d", claimed.ID) {
			t.Errorf("the audit log has %+v, %v", audit, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// A proof counts once, and nothing takes what was proved.
	_, err = b.prove(b.owner, 0, line, signedBy(t, private, c.Text+"\n"), start)
	wantKind(t, err, ErrInvalid, "signature")
	_, err = b.challenge(b.owner, line, start)
	wantKind(t, err, ErrExists, "public_key")
	_, err = b.challenge(b.member, line, start)
	wantKind(t, err, ErrExists, "public_key")
	if errors.Is(err, ErrUnproven) {
		t.Errorf("a proof is asked for although it would not help: %v", err)
	}
	_, err = b.addSSHKey(b.member, 0, line)
	wantKind(t, err, ErrExists, "public_key")
}

func TestAProofIsOfOneUserOneKeyAndSomeMinutes(t *testing.T) {
	b := newBox(t)
	private, line, _ := keyPair(t, 1)
	_, other, _ := keyPair(t, 2)
	c, err := b.challenge(b.member, line, start)
	if err != nil {
		t.Fatal(err)
	}
	good := signedBy(t, private, c.Text)
	for name, try := range map[string]func() (SSHKey, error){
		"another user's":   func() (SSHKey, error) { return b.prove(b.owner, 0, line, good, start) },
		"another key's":    func() (SSHKey, error) { return b.prove(b.member, 0, other, good, start) },
		"too late":         func() (SSHKey, error) { return b.prove(b.member, 0, line, good, c.Expires) },
		"of another text":  func() (SSHKey, error) { return b.prove(b.member, 0, line, signedBy(t, private, c.Text+"x"), start) },
		"no signature":     func() (SSHKey, error) { return b.prove(b.member, 0, line, "hello", start) },
		"an account alien": func() (SSHKey, error) { return b.prove(b.member, b.account+1, line, good, start) },
	} {
		if k, err := try(); err == nil {
			t.Errorf("%s: %+v", name, k)
		} else if name != "an account alien" {
			wantKind(t, err, ErrInvalid, "signature")
		}
	}
	if k, err := b.prove(b.member, b.account, line, good, c.Expires.Add(-time.Second)); err != nil || k.Account != b.account {
		t.Errorf("what was refused has used it up: %+v, %v", k, err) // a slip must not cost another signature
	}
}

func TestANewChallengeTakesThePlaceOfTheOneBefore(t *testing.T) {
	b := newBox(t)
	private, line, _ := keyPair(t, 1)
	first, err := b.challenge(b.member, line, start)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.challenge(b.member, line, start)
	if err != nil || second.Text == first.Text {
		t.Fatalf("%v, %v", second, err)
	}
	_, err = b.prove(b.member, 0, line, signedBy(t, private, first.Text+"\n"), start)
	wantKind(t, err, ErrInvalid, "signature")
	if _, err := b.prove(b.member, 0, line, signedBy(t, private, second.Text+" \r\n"), start); err != nil { // as Windows' echo ends it
		t.Error(err)
	}
}

func TestAKeyOfOnesOwnIsProvedLater(t *testing.T) {
	b := newBox(t)
	private, line, fingerprint := keyPair(t, 1)
	added, err := b.addSSHKey(b.member, b.account, line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.challenge(b.owner, line, start); err != nil { // who has it not
		t.Fatal(err)
	}
	k, err := b.proved(b.member, private, line)
	if err != nil || k.ID != added.ID || k.Account != b.account || !k.IsProven() {
		t.Fatalf("%+v, %v", k, err)
	}
	if now, disputed := b.holder(fingerprint); disputed || !now.IsProven() {
		t.Errorf("it is %+v, in dispute: %v", now, disputed)
	}
}

// The one who can't prove must not get out of a dispute by adding the key anew.
func TestADisputeOutlastsTheKeyThatIsRemoved(t *testing.T) {
	b := newBox(t)
	_, line, fingerprint := keyPair(t, 1)
	k, err := b.addSSHKey(b.member, 0, line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.challenge(b.owner, line, start); err != nil {
		t.Fatal(err)
	}
	b.update(func(tx *store.Tx) error { return RemoveSSHKey(tx, b.member, k.ID) })
	if k, err = b.addSSHKey(b.member, 0, line); err != nil {
		t.Fatal(err)
	}
	if _, disputed := b.holder(fingerprint); !disputed {
		t.Error("added anew, it is in no dispute")
	}
	b.update(func(tx *store.Tx) error { return RemoveSSHKey(tx, b.member, k.ID) })
	if _, err = b.addSSHKey(b.owner, 0, line); err != nil {
		t.Fatal(err)
	}
	if _, disputed := b.holder(fingerprint); disputed {
		t.Error("who asked for it has it, and disputes it with themselves")
	}
}

func TestADisputeBeginsAnewAfterOneThatIsOver(t *testing.T) {
	b := newBox(t)
	private, line, fingerprint := keyPair(t, 1)
	if _, err := b.addSSHKey(b.member, 0, line); err != nil {
		t.Fatal(err)
	}
	k, err := b.proved(b.owner, private, line) // takes it
	if err != nil {
		t.Fatal(err)
	}
	b.update(func(tx *store.Tx) error { return RemoveSSHKey(tx, b.owner, k.ID) })
	if _, err := b.addSSHKey(b.member, 0, line); err != nil {
		t.Fatal(err)
	}
	if _, err := b.challenge(b.owner, line, start); err != nil {
		t.Fatal(err)
	}
	if _, disputed := b.holder(fingerprint); !disputed {
		t.Error("who asked before asks again, and the other has its names")
	}
	for _, account := range []AccountID{b.account, 0} {
		if all := b.audits(account, "ssh-key.dispute"); len(all) != 2 {
			t.Errorf("account %d has %+v of two disputes", account, all)
		}
	}
}

func TestOneUserDisputesSomeKeysAtMost(t *testing.T) {
	b := newBox(t)
	var fingerprints []string
	for n := range maxSSHKeysAsked + 1 {
		_, line, fingerprint := keyPair(t, byte(n))
		if _, err := b.addSSHKey(b.member, 0, line); err != nil {
			t.Fatal(err)
		}
		if _, err := b.challenge(b.owner, line, start); err != nil {
			t.Fatal(err)
		}
		fingerprints = append(fingerprints, fingerprint)
	}
	for n, fingerprint := range fingerprints {
		if _, disputed := b.holder(fingerprint); disputed != (n > 0) {
			t.Errorf("key %d is in dispute: %v", n, disputed)
		}
	}
}

func TestWhoAsksForKeysRoundAndRoundFillsNoLog(t *testing.T) {
	b := newBox(t)
	var lines []string
	for n := range maxSSHKeysAsked + 1 {
		_, line, _ := keyPair(t, byte(n))
		if _, err := b.addSSHKey(b.member, 0, line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	events := func() int { return len(b.audits(0, "ssh-key.dispute")) }
	ask := func(at time.Time) {
		for _, line := range lines {
			if _, err := b.challenge(b.owner, line, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round := range 5 {
		ask(start.Add(time.Duration(round) * time.Hour))
	}
	if n := events(); n != maxSSHKeysAsked {
		t.Errorf("%d events in a day, want %d", n, maxSSHKeysAsked)
	}
	ask(start.Add(25 * time.Hour))
	if n := events(); n != 2*maxSSHKeysAsked {
		t.Errorf("%d events after another day, want %d", n, 2*maxSSHKeysAsked)
	}
}

func TestAChallengeHasNothingThatAShellReads(t *testing.T) {
	for in, want := range map[string]string{
		"ana@example.org": "ana@example.org", "o'brien$(x)`@e.org": "o_brien__x__@e.org", "[::1]:7070": "_::1_:7070", "é b": "__b", "127.0.0.1:7070": "127.0.0.1:7070",
	} {
		if got := shellSafe(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// claimant is one user of the property below; only some have the private half.
type claimant struct {
	user UserID
	has  bool
}

// Whatever people do: a key is in one profile at most; no proved one changes hands
// but by its own user; and who has the private half gets it as long as nobody else
// has proved it.
func TestAProvenKeyIsNeverTakenAndAnUnprovenOneAlwaysCanBe(t *testing.T) {
	private, line, fingerprint := keyPair(t, 1)
	rapid.Check(t, func(rt *rapid.T) {
		b := newBoxIn(t, rt)
		people := []claimant{{b.owner, true}, {b.member, false}}
		var held SSHKey // the model: whose it is
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			p := rapid.SampledFrom(people).Draw(rt, "who")
			mine := held.User == p.user
			switch what := rapid.SampledFrom([]string{"add", "ask", "prove", "forge", "remove"}).Draw(rt, "what"); what {
			case "add":
				k, err := b.addSSHKey(p.user, 0, line)
				if free := held.User == 0; (err == nil) != free {
					rt.Fatalf("add by %d of %+v: %v", p.user, held, err)
				} else if free {
					held = k
				}
			case "ask":
				_, err := b.challenge(p.user, line, start)
				if (err == nil) == held.IsProven() {
					rt.Fatalf("ask by %d of %+v: %v", p.user, held, err)
				}
			case "prove", "forge":
				honest := what == "prove" && p.has
				key := private
				if !honest {
					key, _, _ = keyPair(t, 2)
				}
				k, err := b.proved(p.user, key, line)
				if good := honest && !held.IsProven(); (err == nil) != good {
					rt.Fatalf("%s by %d of %+v: %v", what, p.user, held, err)
				} else if good {
					held = k
				}
			case "remove":
				err := b.try(func(tx *store.Tx) error { return RemoveSSHKey(tx, p.user, held.ID) })
				if (err == nil) != mine {
					rt.Fatalf("remove by %d of %+v: %v", p.user, held, err)
				} else if mine {
					held = SSHKey{}
				}
			}
			if now, _ := b.holder(fingerprint); now.ID != held.ID || now.User != held.User || now.IsProven() != held.IsProven() {
				rt.Fatalf("it is %+v, want %+v", now, held)
			}
			if err := b.view(func(tx *store.Tx) error {
				all, err := sshKeysWithFingerprint(tx, fingerprint)
				if err == nil && len(all) > 1 {
					rt.Fatalf("it is in %d profiles", len(all))
				}
				return err
			}); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// newBoxIn is newBox for each run of a property.
func newBoxIn(t *testing.T, rt *rapid.T) *box {
	db, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	rt.Cleanup(func() { db.Close() })
	b := &box{TB: t, db: db}
	b.update(func(tx *store.Tx) error {
		for email, id := range map[string]*UserID{"owner@example.com": &b.owner, "member@example.com": &b.member} {
			u, err := CreateUser(tx, NewUser{Email: email, PasswordHash: anyHash}, start)
			if err != nil {
				return err
			}
			*id = u.ID
		}
		return nil
	})
	return b
}

// audits lists an account's events with an action, the newest first; 0 is the box's.
func (b *box) audits(account AccountID, action string) (out []Event) {
	b.Helper()
	if err := b.view(func(tx *store.Tx) error {
		all, err := ListAllAudit(tx, 100, 0)
		for _, e := range all {
			if e.Account == account && e.Action == action {
				out = append(out, e)
			}
		}
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return out
}

// second is another account that the member is in.
func (b *box) second() (id AccountID) {
	b.Helper()
	b.update(func(tx *store.Tx) error {
		a, err := CreateAccount(tx, "Second", start)
		if err != nil {
			return err
		}
		id = a.ID
		return AddMember(tx, id, b.member, RoleOwner)
	})
	return id
}

func TestADisputeIsOneEventInEveryAccountThatTheKeyOpensAndOneForTheOperators(t *testing.T) {
	b := newBox(t)
	second := b.second()
	_, line, _ := keyPair(t, 1)
	k, err := b.addSSHKey(b.member, 0, line)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // asking again changes nothing
		if _, err := b.challenge(b.owner, line, start); err != nil {
			t.Fatal(err)
		}
		resource := fmt.Sprintf("ssh-key:%d", k.ID)
		for _, account := range []AccountID{b.account, second} {
			theirs := b.audits(account, "ssh-key.dispute")
			if len(theirs) != 1 || theirs[0].Actor != System || theirs[0].Resource != resource || !theirs[0].At.Equal(start) {
				t.Fatalf("account %d has %+v", account, theirs)
			}
		}
		operators := b.audits(0, "ssh-key.dispute")
		if len(operators) != 1 || operators[0].Actor != UserActor(b.owner) || operators[0].Resource != resource {
			t.Fatalf("the operators have %+v", operators)
		}
	}
	if _, err := b.challenge(b.member, line, start); err != nil { // the holder, who disputes nothing
		t.Fatal(err)
	}
	if all := b.audits(0, "ssh-key.dispute"); len(all) != 1 {
		t.Errorf("%+v", all)
	}
}

func TestADisputeIsNoEventInAnAccountThatTheKeyDoesNotOpen(t *testing.T) {
	b := newBox(t)
	second := b.second()
	_, line, _ := keyPair(t, 1)
	if _, err := b.addSSHKey(b.member, second, line); err != nil {
		t.Fatal(err)
	}
	if _, err := b.challenge(b.owner, line, start); err != nil {
		t.Fatal(err)
	}
	if here, there := b.audits(second, "ssh-key.dispute"), b.audits(b.account, "ssh-key.dispute"); len(here) != 1 || len(there) != 0 {
		t.Errorf("its account has %+v, the other %+v", here, there)
	}
}

// It opens the one still, so that it would be a lie to say that it opens the other.
func TestAKeyForOneAccountIsNotProvedForAnother(t *testing.T) {
	b := newBox(t)
	private, line, fingerprint := keyPair(t, 1)
	other := b.second()
	added, err := b.addSSHKey(b.member, b.account, line)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.challenge(b.member, line, start)
	if err != nil {
		t.Fatal(err)
	}
	signature := signedBy(t, private, c.Text)
	_, err = b.prove(b.member, other, line, signature, start)
	wantKind(t, err, ErrExists, "public_key")
	if k, _ := b.holder(fingerprint); k.IsProven() {
		t.Errorf("it was proved all the same: %+v", k)
	}
	// The console speaks for all accounts, and its list says which one a key opens.
	if k, err := b.prove(b.member, 0, line, signature, start); err != nil || k.ID != added.ID || k.Account != b.account || !k.IsProven() {
		t.Errorf("%+v, %v", k, err)
	}
}
