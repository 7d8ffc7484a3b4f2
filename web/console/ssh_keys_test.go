package console

import (
	"fmt"
	"net/url"
	"testing"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web"
)

// somePublicKey is nobody's: its private half was thrown away.
const (
	somePublicKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKy8Hp8WPJe1AS6I+WVu/lB6R+gB7xXSovCXpHyMqMsT"
	someFingerprint = "SHA256:i9PTDgq6+0Z0Yod1OnRzUwsppddplrzD7Aab+jas6hI"
)

func TestSSHKeysAreAddedShownAndRemoved(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	b.get("/ssh-keys").want(200, "No keys yet", "--ssh-listen")
	b.submit("/ssh-keys", "/ssh-keys", url.Values{"public_key": {"ssh-ed25519 <script>"}}).want(422, "is not a public SSH key").without("<script>")
	b.submit("/ssh-keys", "/ssh-keys", url.Values{"public_key": {somePublicKey + " ana@laptop"}}).want(303)
	b.get("/ssh-keys?note=added").want(200, "ana@laptop", someFingerprint, "all your accounts", "opens your instances from now on")
	b.submit("/ssh-keys", "/ssh-keys", url.Values{"public_key": {somePublicKey}}).want(409, "You have the key")
	eve := w.as("eve@example.org")
	eve.get("/ssh-keys/1/remove").want(404)
	eve.submit("/ssh-keys", "/ssh-keys", url.Values{"public_key": {somePublicKey}}).want(409, "This key is in another profile already").without("ana@laptop")
	b.part("/ssh-keys/1/remove").want(200, "Remove ana@laptop?", someFingerprint)
	b.submit("/ssh-keys/1/remove", "/ssh-keys/1/remove", url.Values{}).want(303)
	b.get("/ssh-keys?note=removed").want(200, "No keys yet", "opens nothing any more")
	w.update(func(tx *store.Tx) error {
		if open, err := identity.AccountsOpenTo(tx, someFingerprint); err != nil || len(open) > 0 {
			t.Errorf("it opens %v, %v", open, err)
		}
		return nil
	})
}

// releaseKey takes somePublicKey out of the profile that it is in, for the next.
func (w *world) releaseKey() {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		k, ok, err := identity.SSHKeyWithFingerprint(tx, someFingerprint)
		if err != nil || !ok {
			return err
		}
		return identity.RemoveSSHKey(tx, k.User, k.ID)
	})
}

func TestTheConsoleSaysHowToEnterBySSH(t *testing.T) {
	w := newWorld(t, 1).people()
	w.console.SSH = web.SSHAddress{Host: "gpu.example.org", Port: 2222, HostKey: "ssh-ed25519 AAAA", Fingerprint: "SHA256:box"}
	b := w.as("ana@example.org")
	b.get("/ssh-keys").want(200, "ssh -p 2222 INSTANCE@gpu.example.org", "SHA256:box")
	b.get("/instances/new").want(200, `name="ssh_public_key"`, "open the instance anyway")
	i := w.launch("trainer", "demo/box", scheduler.Running)
	b.get(fmt.Sprintf("/instances/%d", i.ID)).want(200, "ssh -p 2222 trainer@gpu.example.org")
	w.console.SSH.Port = 22
	b.get(fmt.Sprintf("/instances/%d", i.ID)).want(200, `>ssh trainer@gpu.example.org<`)
	w.console.SSH = web.SSHAddress{}
	b.get(fmt.Sprintf("/instances/%d", i.ID)).want(200).without("ssh ")
}
