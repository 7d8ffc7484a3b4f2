package endtoend

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

const (
	sshKeysPath       = "/v1/users/me/ssh-keys"
	sshChallengesPath = "/v1/users/me/ssh-key-challenges"
)

// neighbour is another customer of the box, with $100.
func (b *box) neighbour(name string) *box {
	b.t.Helper()
	b.stop()
	st, err := store.Open(filepath.Join(b.dir, "data", "ecolink.db"))
	if err != nil {
		b.t.Fatal(err)
	}
	other := *b
	email := name + "@example.org"
	err = st.Update(context.Background(), func(tx *store.Tx) error {
		a, err := identity.CreateAccount(tx, name, time.Now())
		if err != nil {
			return err
		}
		u, err := identity.CreateUser(tx, identity.NewUser{Email: email}, time.Now())
		if err != nil {
			return err
		}
		if err := identity.AddMember(tx, a.ID, u.ID, identity.RoleOwner); err != nil {
			return err
		}
		_, other.key, err = identity.CreateKey(tx, a.ID, u.ID, "first", "", time.Now())
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.start()
	other.serve = b.serve
	b.cli(append([]string{"admin", "topup", email, "100"}, b.place()...)...)
	return &other
}

// runs launches an instance, with somebody's public key or none, that says whose it is.
func (b *box) runs(name, public, whose string) instance {
	b.t.Helper()
	request := b.request(name)
	request["env"] = map[string]string{"WHOSE": whose}
	if public != "" {
		request["ssh_public_key"] = public
	}
	var i instance
	if f := b.api(http.MethodPost, "/v1/gpu-instances", request, &i); f != nil {
		b.t.Fatalf("%+v", f)
	}
	return b.await(i.ID, "running")
}

// leads checks whose instance ssh leads into by a name.
func (d *sshDoor) leads(user, whose string) {
	d.t.Helper()
	if out := d.must(nil, "ssh", d.at(user), "echo $WHOSE"); out != whose+"\n" {
		d.t.Errorf("%s leads into %q, want %q", user, out, whose)
	}
}

// refused checks that ssh leads nowhere, and what it says.
func (d *sshDoor) refused(user, words string) {
	d.t.Helper()
	if r := d.try(nil, "ssh", d.at(user), "echo $WHOSE"); r.code != 255 || r.out != "" || !strings.Contains(r.errs, words) {
		d.t.Errorf("%s: %+v, want a refusal with %q", user, r, words)
	}
}

func TestNobodyIsLedIntoAStrangersInstanceByACopiedPublicKey(t *testing.T) {
	b := newSSHBox(t, 3)
	eve := b.neighbour("eve")
	ana, guest := b.person("ana"), b.person("guest")
	t.Run("in Eve's profile before Ana comes", func(t *testing.T) {
		if f := eve.api(http.MethodPost, sshKeysPath, map[string]any{"public_key": ana.public}, nil); f != nil {
			t.Fatalf("Eve can't even copy it: %+v", f)
		}
		trap := eve.runs("train", "", "eve")
		f := b.api(http.MethodPost, sshKeysPath, map[string]any{"public_key": ana.public}, nil)
		if f == nil || f.Status != http.StatusConflict || !strings.Contains(f.Message, sshChallengesPath) {
			t.Fatalf("Ana adds it: %+v", f)
		}
		ana.refused("train", "another user says that it is theirs")
		ana.refused("root", "another user says that it is theirs")
		if out := b.cli("ssh-key", "add", ana.key+".pub"); !strings.Contains(out, "proved that it is yours") {
			t.Errorf("the CLI: %s", out)
		}
		ana.refused("train", `this key opens no instance called "train"`)
		ana.refused(fmt.Sprint(trap.ID), "this key opens no instance called")
		own := b.runs("train", "", "ana")
		ana.leads("train", "ana")
		if f := eve.api(http.MethodPost, sshKeysPath, map[string]any{"public_key": ana.public}, nil); f == nil || f.Status != http.StatusConflict {
			t.Errorf("Eve takes it back: %+v", f)
		}
		b.terminate(own.ID)
		ana.refused("train", fmt.Sprintf("instance %d (train) is terminated", own.ID))
		eve.terminate(trap.ID)
	})
	t.Run("in Eve's launch beside Ana's", func(t *testing.T) {
		own := b.runs("job", guest.public, "ana")
		guest.leads("job", "ana")
		guest.leads("root", "ana")
		trap := eve.runs("job", guest.public, "eve")
		const doubt = "several accounts have launched with it. Use the instance's number"
		guest.refused("job", doubt)
		guest.leads(fmt.Sprint(own.ID), "ana")
		b.terminate(own.ID)
		guest.refused("job", doubt)
		guest.refused("root", doubt)
		// With the key in a profile and proved, names mean that user's again.
		challenge := struct{ Challenge, Namespace string }{}
		if f := b.api(http.MethodPost, sshChallengesPath, map[string]any{"public_key": guest.public}, &challenge); f != nil {
			t.Fatalf("%+v", f)
		}
		sign := exec.Command("ssh-keygen", "-Y", "sign", "-n", challenge.Namespace, "-f", guest.key)
		sign.Stdin = strings.NewReader(challenge.Challenge)
		signature, err := sign.Output()
		if err != nil {
			t.Fatal(err)
		}
		if f := b.api(http.MethodPost, sshKeysPath, map[string]any{"public_key": guest.public, "signature": string(signature)}, nil); f != nil {
			t.Fatalf("%+v", f)
		}
		guest.refused("job", fmt.Sprintf("instance %d (job) is terminated", own.ID))
		guest.leads(fmt.Sprint(trap.ID), "eve") // as a guest who was told the number
		eve.terminate(trap.ID)
	})
	t.Run("a key that is only pasted works at once", func(t *testing.T) {
		pasted := b.person("pasted")
		if f := b.api(http.MethodPost, sshKeysPath, map[string]any{"public_key": pasted.public}, nil); f != nil {
			t.Fatalf("%+v", f)
		}
		own := b.runs("train", "", "ana")
		pasted.leads("train", "ana")
		b.terminate(own.ID)
	})
}
