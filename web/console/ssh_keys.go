package console

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

// sshKeysView is a user's SSH keys, which are theirs in all of their accounts.
type sshKeysView struct {
	frame
	Server    web.SSHAddress
	Keys      []sshKeyRow // newest first
	Name      string      // as it was typed
	PublicKey string      // the same
	Problems  problems
	Note      string // what a form has just done
	Lost      []identity.LostSSHKey
	Proof     *sshProofView // asks for a proof, when there is something to prove
}

// sshKeyRow is a key and what it opens.
type sshKeyRow struct {
	identity.SSHKey
	Opens    string
	Disputed bool // another user says that it is theirs
}

// removeSSHKeyView asks whether to remove a key.
type removeSSHKeyView struct {
	frame
	identity.SSHKey
}

var sshKeyNotes = map[string]string{
	"added":   "The key opens your instances from now on.",
	"proved":  "The key is proved to be yours. It opens your instances, and nobody can take it.",
	"removed": "The key opens nothing any more. Connections that it opened are being closed.",
}

func (c *console) sshKeys(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.showSSHKeys(w, r, v, http.StatusOK, sshKeysView{Note: sshKeyNotes[r.URL.Query().Get("note")]})
}

func (c *console) showSSHKeys(w http.ResponseWriter, r *http.Request, v *visit, status int, k sshKeysView) error {
	k.frame, k.Server = c.frame(r, v, "SSH keys"), c.SSH
	err := c.Store.View(func(tx *store.Tx) error {
		all, err := identity.ListSSHKeys(tx, v.user.ID)
		if err != nil {
			return err
		}
		if k.Lost, err = identity.ListLostSSHKeys(tx, v.user.ID, time.Now()); err != nil {
			return err
		}
		for _, key := range all {
			row := sshKeyRow{SSHKey: key, Opens: "all your accounts"}
			if row.Disputed, err = identity.SSHKeyDisputed(tx, key); err != nil {
				return err
			}
			switch key.Account {
			case 0:
			case v.account.ID:
				row.Opens = "this account"
			default:
				a, err := identity.AccountByID(tx, key.Account)
				if err != nil {
					return err
				}
				row.Opens = "the account " + a.Name
			}
			k.Keys = append(k.Keys, row)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(k.Keys)
	return show(w, r, status, sshKeysPage(k))
}

func (c *console) addSSHKey(w http.ResponseWriter, r *http.Request, v *visit) error {
	k := sshKeysView{Name: r.PostFormValue("name"), PublicKey: r.PostFormValue("public_key")}
	err := c.Store.Update(r.Context(), func(tx *store.Tx) error {
		made, err := identity.AddSSHKey(tx, v.user.ID, 0, k.Name, k.PublicKey, time.Now())
		if err != nil {
			return err
		}
		return identity.Record(tx, sshKeyEvent(v, r, "ssh-key.add", made))
	})
	if errors.Is(err, identity.ErrUnproven) {
		return c.askProof(w, r, v, http.StatusConflict, &sshProofView{Name: k.Name, PublicKey: k.PublicKey, Reason: err.Error()})
	}
	if err != nil {
		return c.sshKeyRefused(w, r, v, err, k.Name, k.PublicKey)
	}
	http.Redirect(w, r, "/ssh-keys?note=added", http.StatusSeeOther)
	return nil
}

// sshKeyRefused shows the form as it was filled in, with what is wrong.
func (c *console) sshKeyRefused(w http.ResponseWriter, r *http.Request, v *visit, err error, name, publicKey string) error {
	f := web.Explain(r.Context(), c.Log, err)
	if f.Status >= 500 {
		return f
	}
	return c.showSSHKeys(w, r, v, f.Status, sshKeysView{Name: name, PublicKey: publicKey, Problems: problemsOf(f, "name", "public_key")})
}

func (c *console) removeSSHKeyForm(w http.ResponseWriter, r *http.Request, v *visit) error {
	k, err := c.sshKeyOf(r, v)
	if err != nil {
		return err
	}
	q := removeSSHKeyView{frame: c.frame(r, v, "Remove "+k.Name), SSHKey: k}
	if isPart(r) {
		return show(w, r, http.StatusOK, removeSSHKeyQuestion(q))
	}
	return show(w, r, http.StatusOK, removeSSHKeyPage(q))
}

func (c *console) removeSSHKey(w http.ResponseWriter, r *http.Request, v *visit) error {
	k, err := c.sshKeyOf(r, v)
	if err != nil {
		return err
	}
	err = c.Store.Update(r.Context(), func(tx *store.Tx) error {
		if err := identity.RemoveSSHKey(tx, v.user.ID, k.ID); err != nil {
			return err
		}
		return identity.Record(tx, sshKeyEvent(v, r, "ssh-key.remove", k))
	})
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/ssh-keys?note=removed", http.StatusSeeOther)
	return nil
}

// sshKeyOf reads the key that the address names, if it is the user's.
func (c *console) sshKeyOf(r *http.Request, v *visit) (k identity.SSHKey, err error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return k, web.Fail(http.StatusNotFound, "not_found", "", "there is no such SSH key: choose one from your list")
	}
	err = c.Store.View(func(tx *store.Tx) (err error) {
		k, err = identity.SSHKeyByID(tx, v.user.ID, identity.SSHKeyID(id))
		return err
	})
	return k, err
}

func sshKeyEvent(v *visit, r *http.Request, action string, k identity.SSHKey) identity.Event {
	e := v.event(r, action, fmt.Sprintf("ssh-key:%d", k.ID))
	e.Detail = k.Name + " " + k.Fingerprint
	return e
}
