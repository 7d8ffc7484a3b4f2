package scheduler

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// sshModel is what should be so of one key: Ana, of the account alice, has its
// private half, and Eve, of bob, only a copy of the public one.
type sshModel struct {
	*box
	rt                *rapid.T
	ana, eve          identity.UserID
	line, fingerprint string

	holder   identity.UserID // whose profile has it; 0: nobody's
	proved   bool
	asked    bool // by Ana, while Eve had it
	launched bool // by alice, with the key
	all      []Instance
	withKey  map[InstanceID]bool
}

// Whatever Eve does with Ana's public key: once Ana has laid any claim to it, by
// adding it, trying to, or launching with it, no name leads her into Eve's.
func TestNoNameLeadsWhoLaysClaimToAKeyIntoAnothersInstance(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t, 8)
			defer b.close()
			m := &sshModel{box: b, rt: rt, withKey: map[InstanceID]bool{}}
			m.line, m.fingerprint = sshLine(t, 1)
			b.update(func(tx *store.Tx) error {
				if _, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: bob, Amount: usd("100")}); err != nil {
					return err
				}
				for _, p := range []struct {
					id      *identity.UserID
					email   string
					account identity.AccountID
				}{{&m.ana, "ana@example.org", alice}, {&m.eve, "eve@example.org", bob}} {
					u, err := identity.CreateUser(tx, identity.NewUser{Email: p.email}, time.Now())
					if err != nil {
						return err
					}
					*p.id = u.ID
					if err := identity.AddMember(tx, p.account, u.ID, identity.RoleOwner); err != nil {
						return err
					}
				}
				return nil
			})
			for range rapid.IntRange(6, 20).Draw(rt, "steps") {
				m.step()
				m.check()
			}
		})
	})
}

func (m *sshModel) step() {
	user := rapid.SampledFrom([]identity.UserID{m.ana, m.eve}).Draw(m.rt, "user")
	account := map[identity.UserID]identity.AccountID{m.ana: alice, m.eve: bob}[user]
	try := func(fn func(tx *store.Tx) error) bool { return m.store.Update(background, fn) == nil }
	switch rapid.SampledFrom([]int{1, 3, 1, 3, 2, 4, 5, 6}).Draw(m.rt, "op") {
	case 1:
		r := request(rapid.SampledFrom([]string{"train", "job"}).Draw(m.rt, "name"), 1)
		if r.Account = account; rapid.Bool().Draw(m.rt, "with the key") {
			r.SSHKey = m.line
		}
		i, err := m.Launch(background, r)
		if err != nil {
			return // the name is taken, or the GPUs are
		}
		m.settle()
		m.all = append(m.all, i)
		m.withKey[i.ID] = r.SSHKey != ""
		m.launched = m.launched || r.SSHKey != "" && user == m.ana
	case 2:
		if len(m.all) > 0 {
			i := rapid.SampledFrom(m.all).Draw(m.rt, "end")
			_, _ = m.Terminate(background, i.Account, i.ID)
			m.settle()
		}
	case 3: // as the console and the API do it: a refusal is followed by a challenge
		err := m.store.Update(background, func(tx *store.Tx) error {
			_, err := identity.AddSSHKey(tx, user, 0, "", m.line, time.Now())
			return err
		})
		if err == nil {
			m.holder, m.proved = user, false
		} else if errors.Is(err, identity.ErrUnproven) {
			m.asks(user, m.line)
			m.asked = m.asked || user == m.ana
		}
	case 4:
		if user == m.ana && !m.proved { // who is the only one that can
			m.proves(m.ana, 1)
			m.holder, m.proved, m.asked = m.ana, true, false
		}
	case 5:
		if m.holder == user && try(func(tx *store.Tx) error {
			k, _, err := identity.SSHKeyWithFingerprint(tx, m.fingerprint)
			if err != nil {
				return err
			}
			return identity.RemoveSSHKey(tx, user, k.ID)
		}) {
			m.holder, m.proved = 0, false
		}
	case 6:
		m.restart()
	}
}

func (m *sshModel) check() {
	claimed := m.launched || m.asked && m.holder == m.eve || m.holder == m.ana
	for _, name := range []string{"train", "job", "root", "none"} {
		e, err := m.EnterBySSH(name, m.fingerprint)
		if claimed && e.Instance != 0 && e.Account != alice {
			m.rt.Fatalf("%s leads Ana into %v of Eve's, %v", name, e, err)
		}
		if !m.proved {
			continue
		}
		for _, i := range m.all { // and to have proved it is enough
			if now := m.read(i.ID); i.Account == alice && i.Name == name && now.State == Running && e.Instance != i.ID {
				m.rt.Fatalf("%s leads into %v, %v, and not into Ana's %d", name, e, err, i.ID)
			}
		}
	}
	owner := map[identity.UserID]identity.AccountID{m.ana: alice, m.eve: bob}[m.holder]
	for _, i := range m.all { // a number always counts
		_, err := m.EnterBySSH(fmt.Sprint(i.ID), m.fingerprint)
		var p *Problem
		opened := !errors.As(err, &p) || p.Kind == Conflict
		if want := m.withKey[i.ID] || i.Account == owner; opened != want {
			m.rt.Fatalf("the key opens %d: %v, %v; want %v", i.ID, opened, err, want)
		}
	}
}
