package console

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

// sshProofView asks a user to prove that they have the private half of a key.
type sshProofView struct {
	Name        string
	PublicKey   string
	Fingerprint string
	Reason      string // why it is asked for; "" when the user wants it
	Command     string // that makes the signature
	Signature   string // as it was pasted
	Problem     string // with it
}

// signCommand makes the proof in the shell of the user's own computer.
func signCommand(ch identity.SSHChallenge) string {
	file := map[string]string{"ssh-ed25519": "id_ed25519", "ssh-rsa": "id_rsa"}[ch.Key.Type]
	switch {
	case file != "":
	case strings.HasPrefix(ch.Key.Type, "sk-ssh-ed25519"):
		file = "id_ed25519_sk"
	case strings.HasPrefix(ch.Key.Type, "sk-"):
		file = "id_ecdsa_sk"
	default:
		file = "id_ecdsa"
	}
	return fmt.Sprintf("echo %s | ssh-keygen -Y sign -n %s -f ~/.ssh/%s", ch.Text, identity.SSHNamespace, file)
}

// askProof shows the page with what to sign. The challenge stays while it is good,
// so that a signature which was pasted by half need not be made again.
func (c *console) askProof(w http.ResponseWriter, r *http.Request, v *visit, status int, p *sshProofView) error {
	var challenge identity.SSHChallenge
	err := c.Store.Update(r.Context(), func(tx *store.Tx) (err error) {
		if p.Problem != "" {
			var open bool
			if challenge, open, err = identity.OpenSSHChallenge(tx, v.user.ID, p.PublicKey, time.Now()); err != nil || open {
				return err
			}
		}
		challenge, err = identity.ChallengeSSHKey(tx, v.user.ID, c.Box, p.PublicKey, time.Now())
		return err
	})
	if err != nil {
		return c.sshKeyRefused(w, r, v, err, p.Name, p.PublicKey)
	}
	p.Fingerprint, p.Command = challenge.Key.Fingerprint, signCommand(challenge)
	return c.showSSHKeys(w, r, v, status, sshKeysView{Proof: p})
}

// proveSSHKey takes a proof, or asks for one when the form has none yet.
func (c *console) proveSSHKey(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := &sshProofView{Name: r.PostFormValue("name"), PublicKey: r.PostFormValue("public_key"), Signature: r.PostFormValue("signature")}
	if !r.PostForm.Has("signature") {
		return c.askProof(w, r, v, http.StatusOK, p)
	}
	err := c.Store.Update(r.Context(), func(tx *store.Tx) error {
		k, err := identity.ProveSSHKey(tx, v.user.ID, 0, p.Name, p.PublicKey, p.Signature, time.Now())
		if err != nil {
			return err
		}
		return identity.Record(tx, sshKeyEvent(v, r, "ssh-key.prove", k))
	})
	if err == nil {
		http.Redirect(w, r, "/ssh-keys?note=proved", http.StatusSeeOther)
		return nil
	}
	if f := web.Explain(r.Context(), c.Log, err); f.Param != nil && *f.Param == "signature" {
		p.Problem = f.Message
		return c.askProof(w, r, v, f.Status, p)
	}
	return c.sshKeyRefused(w, r, v, err, p.Name, p.PublicKey)
}
