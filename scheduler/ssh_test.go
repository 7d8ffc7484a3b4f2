package scheduler

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// sshLine is a public key that only this seed has.
func sshLine(t testing.TB, seed byte) (line, fingerprint string) {
	t.Helper()
	raw := make([]byte, ed25519.SeedSize)
	raw[0] = seed
	key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(raw).Public())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), ssh.FingerprintSHA256(key)
}

// sshSigned is what ssh-keygen -Y sign makes of a text with the key of a seed.
func sshSigned(t testing.TB, seed byte, text string) string {
	t.Helper()
	raw := make([]byte, ed25519.SeedSize)
	raw[0] = seed
	private := ed25519.NewKeyFromSeed(raw)
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512([]byte(text))
	data := append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{identity.SSHNamespace, "", "sha512", string(sum[:])})...)
	blob := append([]byte("SSHSIG"), ssh.Marshal(struct {
		Version                                   uint32
		Key, Namespace, Reserved, Hash, Signature string
	}{1, string(public.Marshal()), identity.SSHNamespace, "", "sha512", string(ssh.Marshal(ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: ed25519.Sign(private, data)}))})...)
	return string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: blob}))
}

// asks has a user ask for the challenge of a key, and gives its text.
func (b *box) asks(u identity.UserID, line string) (text string) {
	b.t.Helper()
	b.update(func(tx *store.Tx) error {
		c, err := identity.ChallengeSSHKey(tx, u, "box", line, time.Now())
		text = c.Text
		return err
	})
	return text
}

// proves has a user prove to have the key of a seed.
func (b *box) proves(u identity.UserID, seed byte) {
	b.t.Helper()
	line, _ := sshLine(b.t, seed)
	signature := sshSigned(b.t, seed, b.asks(u, line))
	b.update(func(tx *store.Tx) error {
		_, err := identity.ProveSSHKey(tx, u, 0, "", line, signature, time.Now())
		return err
	})
}

// member makes a user of some accounts, with a key.
func (b *box) member(email, line string, accounts ...identity.AccountID) (u identity.User, k identity.SSHKey) {
	b.t.Helper()
	b.update(func(tx *store.Tx) (err error) {
		if u, err = identity.CreateUser(tx, identity.NewUser{Email: email}, time.Now()); err != nil {
			return err
		}
		for _, a := range accounts {
			if err := identity.AddMember(tx, a, u.ID, identity.RoleMember); err != nil {
				return err
			}
		}
		k, err = identity.AddSSHKey(tx, u.ID, 0, "", line, time.Now())
		return err
	})
	return u, k
}

func (b *box) launchFor(a identity.AccountID, name, key string) Instance {
	b.t.Helper()
	r := request(name, 1)
	r.Account, r.SSHKey = a, key
	i, err := b.Launch(background, r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.settle()
	return b.read(i.ID)
}

func (b *box) enters(name, fingerprint string, want InstanceID) Entry {
	b.t.Helper()
	e, err := b.EnterBySSH(name, fingerprint)
	if err != nil || e.Instance != want {
		b.t.Errorf("%s leads into %v, %v; want instance %d", name, e, err, want)
	}
	return e
}

// refuses checks what sort of refusal it is and that it says this.
func (b *box) refuses(name, fingerprint string, kind Kind, words string) {
	b.t.Helper()
	_, err := b.EnterBySSH(name, fingerprint)
	var p *Problem
	if !errors.As(err, &p) || p.Kind != kind || !strings.Contains(p.Message, words) {
		b.t.Errorf("%s: %v, want %s with %q", name, err, kind, words)
	}
}

// sshTest runs a story with room for four instances and money for both accounts.
func sshTest(t *testing.T, story func(t *testing.T, b *box)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 4)
		defer b.close()
		b.update(func(tx *store.Tx) error {
			_, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: bob, Amount: usd("100")})
			return err
		})
		story(t, b)
	})
}

func TestAKeyDecidesWhoseInstanceANameMeans(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		ana, anas := sshLine(t, 1)
		ben, bens := sshLine(t, 2)
		_, eves := sshLine(t, 3)
		u, k := b.member("ana@example.org", ana, alice)
		b.member("ben@example.org", ben, bob)
		hers, his := b.launchFor(alice, "trainer", ""), b.launchFor(bob, "trainer", "")
		if e := b.enters("trainer", anas, hers.ID); e.User != u.ID || e.Key != k.ID || e.Account != alice {
			t.Errorf("she enters as %+v", e)
		}
		b.enters("trainer", bens, his.ID)
		b.enters(fmt.Sprint(hers.ID), anas, hers.ID)
		b.enters("root", anas, hers.ID)
		// Another's is as one that never was.
		b.refuses(fmt.Sprint(his.ID), anas, NotFound, fmt.Sprintf("no instance called %q", fmt.Sprint(his.ID)))
		b.refuses("99", anas, NotFound, `no instance called "99"`)
		b.refuses("trainer", eves, NotFound, `no instance called "trainer"`)
		for fingerprint, want := range map[string]bool{anas: true, bens: true, eves: false} {
			if known, err := b.KnowsSSHKey(fingerprint); err != nil || known != want {
				t.Errorf("%s is known: %v, %v", fingerprint, known, err)
			}
		}
	})
}

func TestWhereANameIsSeveralInstancesTheNumberDecides(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		line, fingerprint := sshLine(t, 1)
		b.member("ana@example.org", line, alice, bob)
		hers, his := b.launchFor(alice, "trainer", ""), b.launchFor(bob, "trainer", "")
		both := fmt.Sprintf("%d (trainer), %d (trainer)", hers.ID, his.ID)
		b.refuses("trainer", fingerprint, Conflict, both)
		b.refuses("root", fingerprint, Conflict, both)
		b.enters(fmt.Sprint(his.ID), fingerprint, his.ID)
		digits := b.launchFor(alice, fmt.Sprint(his.ID), "") // called like the other's number
		b.enters(fmt.Sprint(his.ID), fingerprint, his.ID)
		b.enters(fmt.Sprint(digits.ID), fingerprint, digits.ID)
	})
}

func TestAKeyFromTheLaunchOpensThatInstanceAlone(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		line, fingerprint := sshLine(t, 1)
		second, other := sshLine(t, 2)
		b.launchFor(alice, "closed", "")
		open := b.launchFor(alice, "open", "# both of us\n"+line+" ana@laptop\n\n"+second+"\n")
		if open.SSHKey != line+" ana@laptop\n"+second {
			t.Errorf("it keeps %q", open.SSHKey)
		}
		if e := b.enters("open", fingerprint, open.ID); e.User != 0 || e.Key != 0 {
			t.Errorf("nobody's key enters as %+v", e)
		}
		b.enters("root", other, open.ID)
		b.refuses("closed", fingerprint, NotFound, "no instance called")
		if _, err := b.Terminate(background, alice, open.ID); err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.refuses("open", fingerprint, Conflict, "terminated: user_request")
		b.refuses(fmt.Sprint(open.ID), fingerprint, Conflict, "launch another one")
	})
}

// Eve can launch with Ana's public key, and call it what Ana's is called.
func TestNobodyIsLedIntoWhatOthersLaunchedWithTheirKey(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		line, fingerprint := sshLine(t, 1)
		u, _ := b.member("ana@example.org", line, alice)
		hers, eves := b.launchFor(alice, "trainer", ""), b.launchFor(bob, "trainer", line)
		b.refuses("trainer", fingerprint, NotFound, "in a profile without a proof, and another account has launched with it")
		b.refuses("root", fingerprint, NotFound, "`ecolink ssh-key add`")
		b.enters(fmt.Sprint(hers.ID), fingerprint, hers.ID)
		b.proves(u.ID, 1)
		b.enters("trainer", fingerprint, hers.ID) // and is not asked which
		b.enters("root", fingerprint, hers.ID)
		if e := b.enters(fmt.Sprint(eves.ID), fingerprint, eves.ID); e.User != 0 || e.Account != bob {
			t.Errorf("she enters as %+v", e)
		}
		if _, err := b.Terminate(background, alice, hers.ID); err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.refuses("trainer", fingerprint, Conflict, fmt.Sprintf("instance %d (trainer) is terminated", hers.ID))
		b.refuses("root", fingerprint, NotFound, `no instance called "root"`)
		other := b.launchFor(bob, "other", line)
		b.refuses("other", fingerprint, NotFound, fmt.Sprintf("others launched %d (other) with your key", other.ID))
		b.enters(fmt.Sprint(other.ID), fingerprint, other.ID) // a guest knows the number
		for _, i := range []Instance{eves, other} {
			if _, err := b.Terminate(background, bob, i.ID); err != nil {
				t.Fatal(err)
			}
		}
		b.settle()
		b.refuses("other", fingerprint, NotFound, `no instance called "other"`)
		b.refuses("trainer", fingerprint, Conflict, fmt.Sprintf("instance %d (trainer) is terminated", hers.ID)) // not Eve's newer one
	})
}

// Eve can't have Ana's public key in her profile beside Ana.
func TestAKeyInAProfileCanNotBeAnothersToo(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		line, fingerprint := sshLine(t, 1)
		b.member("ana@example.org", line, alice)
		own, _ := sshLine(t, 2)
		eve, _ := b.member("eve@example.org", own, bob)
		err := b.store.Update(background, func(tx *store.Tx) error {
			_, err := identity.AddSSHKey(tx, eve.ID, 0, "", line, time.Now())
			return err
		})
		if !errors.Is(err, identity.ErrExists) {
			t.Errorf("she has it: %v", err)
		}
		hers, eves := b.launchFor(alice, "trainer", ""), b.launchFor(bob, "trainer", "")
		b.enters("trainer", fingerprint, hers.ID)
		if _, err := b.Terminate(background, alice, hers.ID); err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.refuses("trainer", fingerprint, Conflict, fmt.Sprintf("instance %d (trainer) is terminated", hers.ID))
		b.refuses(fmt.Sprint(eves.ID), fingerprint, NotFound, "no instance called")
	})
}

// A key for one account of its user's may have been given to a launch in another.
func TestANameMeansTheInstancesOfAllAccountsOfTheKeysUser(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		line, fingerprint := sshLine(t, 1)
		u, k := b.member("ana@example.org", line, alice, bob)
		b.update(func(tx *store.Tx) error {
			if err := identity.RemoveSSHKey(tx, u.ID, k.ID); err != nil {
				return err
			}
			_, err := identity.AddSSHKey(tx, u.ID, alice, "", line, time.Now())
			return err
		})
		b.launchFor(bob, "closed", "")
		given := b.launchFor(bob, "given", line)
		b.enters("given", fingerprint, given.ID)
		b.enters("root", fingerprint, given.ID)
		b.refuses("closed", fingerprint, NotFound, "no instance called")
		b.update(func(tx *store.Tx) error { return identity.RemoveMember(tx, bob, u.ID) })
		b.refuses("given", fingerprint, NotFound, "another account has launched with it")
		b.proves(u.ID, 1)
		b.refuses("given", fingerprint, NotFound, "name it by its number")
		b.enters(fmt.Sprint(given.ID), fingerprint, given.ID)
	})
}

// Eve launches with the public key of a stranger, and waits until theirs is over.
func TestWithoutAProfileANameCountsForOneAccountAlone(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		line, fingerprint := sshLine(t, 1)
		one := b.launchFor(alice, "trainer", line)
		b.enters("trainer", fingerprint, one.ID)
		b.enters("root", fingerprint, one.ID)
		two := b.launchFor(bob, "trainer", line)
		const doubt = "several accounts have launched with it. Use the instance's number"
		for _, name := range []string{"trainer", "root", "nothing"} {
			b.refuses(name, fingerprint, NotFound, doubt)
		}
		b.enters(fmt.Sprint(one.ID), fingerprint, one.ID)
		b.enters(fmt.Sprint(two.ID), fingerprint, two.ID)
		if _, err := b.Terminate(background, alice, one.ID); err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.refuses("trainer", fingerprint, NotFound, doubt)
		b.refuses(fmt.Sprint(one.ID), fingerprint, Conflict, "terminated: user_request")
		// With the key in their profile and proved, names mean theirs again.
		u, _ := b.member("ana@example.org", func() string { l, _ := sshLine(t, 2); return l }(), alice)
		b.proves(u.ID, 1)
		b.refuses("trainer", fingerprint, Conflict, fmt.Sprintf("instance %d (trainer) is terminated", one.ID))
		b.enters(fmt.Sprint(two.ID), fingerprint, two.ID)
	})
}

// Eve has the public key of a stranger in her profile before they come.
func TestNobodyIsLedIntoTheInstancesOfWhoOnlyCopiedTheirKey(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		line, fingerprint := sshLine(t, 1)
		own, _ := sshLine(t, 2)
		eve, _ := b.member("eve@example.org", line, bob)
		ana, _ := b.member("ana@example.org", own, alice)
		eves := b.launchFor(bob, "trainer", "")
		e := b.enters("trainer", fingerprint, eves.ID) // nobody else knows the key yet
		text := b.asks(ana.ID, line)                   // what the refusal to add it does
		b.refuses("trainer", fingerprint, NotFound, "another user says that it is theirs")
		b.enters(fmt.Sprint(eves.ID), fingerprint, eves.ID)
		b.update(func(tx *store.Tx) error {
			k, _, err := identity.SSHKeyWithFingerprint(tx, fingerprint)
			if err != nil {
				return err
			}
			if err := identity.RemoveSSHKey(tx, eve.ID, k.ID); err != nil {
				return err
			}
			_, err = identity.AddSSHKey(tx, eve.ID, 0, "", line, time.Now())
			return err
		})
		b.refuses("trainer", fingerprint, NotFound, "another user says that it is theirs")
		b.update(func(tx *store.Tx) error {
			_, err := identity.ProveSSHKey(tx, ana.ID, 0, "", line, sshSigned(t, 1, text), time.Now())
			return err
		})
		var p *Problem
		if err := b.MayStay(e); !errors.As(err, &p) || p.Kind != NotFound {
			t.Errorf("who was in may stay: %v", err)
		}
		b.refuses("trainer", fingerprint, NotFound, `no instance called "trainer"`)
		b.refuses(fmt.Sprint(eves.ID), fingerprint, NotFound, "no instance called")
		hers := b.launchFor(alice, "trainer", "")
		b.enters("trainer", fingerprint, hers.ID)
	})
}

// What was launched with a key is found however much was launched with it since.
func TestAnInstanceIsFoundByItsOwnRowOfTheIndex(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		line, fingerprint := sshLine(t, 1)
		i := b.launchFor(alice, "trainer", line)
		b.update(func(tx *store.Tx) error {
			for n := range InstanceID(1500) {
				if err := instancesBySSHKey.Put(tx, sshKeyRow(fingerprint, 1000+n), 1000+n); err != nil {
					return err
				}
			}
			return nil
		})
		e := b.enters("trainer", fingerprint, i.ID)
		b.enters(fmt.Sprint(i.ID), fingerprint, i.ID)
		if err := b.MayStay(e); err != nil {
			t.Error(err)
		}
	})
}

// A ledger may be older than the index of names.
func TestAnInstanceFromBeforeTheIndexIsFoundAfterAStart(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		line, fingerprint := sshLine(t, 1)
		i := b.launchFor(alice, "trainer", line)
		b.update(func(tx *store.Tx) error {
			if err := instancesByName.Delete(tx, nameRow(alice, "trainer")); err != nil {
				return err
			}
			return sshKeyLaunchers.Delete(tx, launcherRow(fingerprint, alice))
		})
		b.refuses("trainer", fingerprint, NotFound, "no instance called")
		b.restart()
		b.settle()
		b.enters("trainer", fingerprint, i.ID)
	})
}

func TestWhoWaitsForAnInstanceLearnsWhereItIs(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		line, fingerprint := sshLine(t, 1)
		r := request("all", 1)
		r.GPUCount = 4
		if _, err := b.Launch(background, r); err != nil {
			t.Fatal(err)
		}
		b.settle()
		i := b.launchFor(alice, "next", line)
		e, err := b.EnterBySSH("next", fingerprint)
		var p *Problem
		if !errors.As(err, &p) || p.Kind != Conflict || !strings.Contains(p.Message, "is pending: it waits for GPUs") || e.Instance != i.ID {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

func TestAPersonStaysWhileTheKeyTheMembershipAndTheInstanceDo(t *testing.T) {
	for name, end := range map[string]func(b *box, u identity.UserID, k identity.SSHKeyID, i InstanceID) error{
		"the key is removed": func(b *box, u identity.UserID, k identity.SSHKeyID, _ InstanceID) error {
			return b.store.Update(background, func(tx *store.Tx) error { return identity.RemoveSSHKey(tx, u, k) })
		},
		"the user leaves": func(b *box, u identity.UserID, _ identity.SSHKeyID, _ InstanceID) error {
			return b.store.Update(background, func(tx *store.Tx) error { return identity.RemoveMember(tx, alice, u) })
		},
		"the instance ends": func(b *box, _ identity.UserID, _ identity.SSHKeyID, i InstanceID) error {
			_, err := b.Terminate(background, alice, i)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			sshTest(t, func(t *testing.T, b *box) {
				line, fingerprint := sshLine(t, 1)
				u, k := b.member("ana@example.org", line, alice)
				i := b.launchFor(alice, "trainer", "")
				e := b.enters("trainer", fingerprint, i.ID)
				if err := b.MayStay(e); err != nil {
					t.Fatalf("may not even come: %v", err)
				}
				if err := end(b, u.ID, k.ID, i.ID); err != nil {
					t.Fatal(err)
				}
				var p *Problem
				if err := b.MayStay(e); !errors.As(err, &p) {
					t.Errorf("may stay: %v", err)
				}
			})
		})
	}
}

func TestALaunchWithABadKeyCreatesNothing(t *testing.T) {
	sshTest(t, func(t *testing.T, b *box) {
		r := request("trainer", 1)
		r.SSHKey = "ssh-ed25519 nonsense"
		_, err := b.Launch(background, r)
		var bad *identity.Error
		if !errors.As(err, &bad) || bad.Field != "ssh_public_key" {
			t.Errorf("got %v", err)
		}
		if all, err := b.List(alice, 0, 10); err != nil || len(all) > 0 {
			t.Errorf("there are %v, %v", all, err)
		}
		b.wantWallet(alice, "100", "0")
	})
}
