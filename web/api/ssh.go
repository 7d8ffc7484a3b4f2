package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

const tagSSH = "SSH"

// sshServer is where people find the SSH server.
type sshServer struct {
	Enabled     bool   `json:"enabled" doc:"Whether this box answers SSH."`
	Host        string `json:"host" doc:"The name that people use for the box; empty when SSH is off." example:"gpu.example.org"`
	Port        int    `json:"port" doc:"0 when SSH is off." example:"2222"`
	HostKey     string `json:"host_key" doc:"The box's public key, as known_hosts has it." example:"ssh-ed25519 AAAA…"`
	Fingerprint string `json:"fingerprint" doc:"Of the host key: what ssh shows on the first connection." example:"SHA256:…"`
}

// sshKey is a user's public key.
type sshKey struct {
	ID          identity.SSHKeyID `json:"id"`
	Name        string            `json:"name"`
	Type        string            `json:"type" example:"ssh-ed25519"`
	Fingerprint string            `json:"fingerprint" example:"SHA256:…"`
	PublicKey   string            `json:"public_key" example:"ssh-ed25519 AAAA…"`
	ThisAccount bool              `json:"this_account" doc:"Whether it opens the instances of this account alone, and not of all accounts that its user is in."`
	CreatedAt   time.Time         `json:"created_at"`
	ProvenAt    *time.Time        `json:"proven_at" doc:"When its user proved to have the private half; null when they have not. Who does so before them takes the key."`
	LastUsedAt  *time.Time        `json:"last_used_at" doc:"To the minute; null when it was never used."`
}

func sshKeyOf(k identity.SSHKey) sshKey {
	return sshKey{
		ID: k.ID, Name: k.Name, Type: k.Type, Fingerprint: k.Fingerprint, PublicKey: k.Line, ThisAccount: k.Account != 0,
		CreatedAt: k.Created.UTC(), ProvenAt: instantOrNull(k.Proven), LastUsedAt: instantOrNull(k.LastUsed),
	}
}

type sshServerOutput struct{ Body sshServer }

type sshKeysOutput struct{ Body page[sshKey] }

type addSSHKeyInput struct {
	IdempotencyKey string `header:"Idempotency-Key" hidden:"true"`
	Body           struct {
		PublicKey string `json:"public_key" doc:"One line, as ssh-keygen writes it into the file that ends in .pub." example:"ssh-ed25519 AAAA… you@laptop"`
		Name      string `json:"name,omitempty" doc:"What to call it, in at most 100 characters; the key's own comment when left out." example:"laptop"`
		Signature string `json:"signature,omitempty" doc:"What ssh-keygen -Y sign made of the newest challenge for this key: the proof that you have its private half. With it the key is yours although it is in another profile without a proof, or is proved later when it is in your own." example:"-----BEGIN SSH SIGNATURE-----…"`
	} `nameHint:"AddSSHKeyRequest"`
}

type challengeSSHKeyInput struct {
	Body struct {
		PublicKey string `json:"public_key" doc:"One line, as ssh-keygen writes it into the file that ends in .pub." example:"ssh-ed25519 AAAA… you@laptop"`
	} `nameHint:"ChallengeSSHKeyRequest"`
}

type challengeSSHKeyOutput struct{ Body sshChallenge }

// sshChallenge is a text to sign with a key.
type sshChallenge struct {
	Challenge   string    `json:"challenge" doc:"To be signed with one line feed behind it, or none. It names the box, you and the key: sign nothing that names another." example:"ecolink:gpu.example.org:you@example.org:SHA256:…"`
	Namespace   string    `json:"namespace" doc:"For ssh-keygen -Y sign -n." example:"ecolink-ssh-key"`
	Fingerprint string    `json:"fingerprint" example:"SHA256:…"`
	ExpiresAt   time.Time `json:"expires_at"`
}

type sshKeyOutput struct{ Body sshKey }

type removeSSHKeyInput struct {
	ID identity.SSHKeyID `path:"id" minimum:"1" doc:"The key's number."`
}

func (a *api) addSSH() {
	register(a, huma.Operation{
		OperationID: "get-ssh", Method: http.MethodGet, Path: "/v1/ssh", Tags: []string{tagSSH},
		Summary:     "Tell where SSH is answered",
		Description: "One port for all instances: the user name is the instance's name or number, and the public key decides whose instance that may be. A number always counts. A name counts where it is sure whose the key is: its user has proved to have it, and then it means instances of their accounts; or nobody but one user, or one account by its launches, has laid claim to it.",
	}, a.ssh)
	register(a, huma.Operation{
		OperationID: "list-ssh-keys", Method: http.MethodGet, Path: "/v1/users/me/ssh-keys", Tags: []string{tagSSH},
		Summary:     "List your SSH keys",
		Description: "The public keys of the user who made the API key, as far as they open instances of this account, oldest first, in one page.",
	}, a.listSSHKeys)
	register(a, huma.Operation{
		OperationID: "add-ssh-key", Method: http.MethodPost, Path: "/v1/users/me/ssh-keys", Tags: []string{tagSSH},
		DefaultStatus: http.StatusCreated, Errors: []int{400, 404, 409, 413, 415},
		Summary: "Add an SSH key",
		Description: "For the user who made the API key. Since an API key stands for one account, the SSH key opens the instances of this account alone; " +
			"one that is added in the console opens those of all accounts that its user is in. A key is in one user's profile at most: in that of who proves to have it. " +
			"The status is 201 also when a key that you had is proved.",
	}, a.addSSHKey)
	register(a, huma.Operation{
		OperationID: "challenge-ssh-key", Method: http.MethodPost, Path: "/v1/users/me/ssh-key-challenges", Tags: []string{tagSSH},
		DefaultStatus: http.StatusCreated, Errors: []int{400, 409, 413, 415},
		Summary: "Get a text by which to prove that you have an SSH key",
		Description: "Sign it with `ssh-keygen -Y sign -n ecolink-ssh-key -f FILE`, and add the key with the signature. It counts once, for this key and user, and takes the place of any before it. " +
			"A key that is in another profile without a proof enters nothing by name from now on, until one of you proves it.",
	}, a.challengeSSHKey)
	register(a, huma.Operation{
		OperationID: "remove-ssh-key", Method: http.MethodDelete, Path: "/v1/users/me/ssh-keys/{id}", Tags: []string{tagSSH},
		DefaultStatus: http.StatusNoContent, Errors: []int{403, 404},
		Summary:     "Remove an SSH key",
		Description: "Connections that it opened are closed within seconds. A key that is for all of the user's accounts is removed in the console.",
	}, a.removeSSHKey)
}

func (a *api) ssh(context.Context, *struct{}) (*sshServerOutput, error) {
	s := a.SSH
	if !s.On() {
		return &sshServerOutput{}, nil
	}
	return &sshServerOutput{sshServer{Enabled: true, Host: s.Host, Port: s.Port, HostKey: s.HostKey, Fingerprint: s.Fingerprint}}, nil
}

func (a *api) listSSHKeys(ctx context.Context, _ *struct{}) (*sshKeysOutput, error) {
	c := web.CallerOf(ctx)
	out := page[sshKey]{Data: []sshKey{}}
	err := a.Store.View(func(tx *store.Tx) error {
		all, err := identity.ListSSHKeys(tx, c.User)
		for _, k := range all {
			if k.Account == 0 || k.Account == c.Account {
				out.Data = append(out.Data, sshKeyOf(k))
			}
		}
		return err
	})
	return &sshKeysOutput{out}, err
}

func (a *api) addSSHKey(ctx context.Context, in *addSSHKeyInput) (*sshKeyOutput, error) {
	if in.IdempotencyKey != "" {
		return nil, web.Fail(http.StatusBadRequest, "invalid_request", "Idempotency-Key",
			"an idempotency key is not supported here: a key that is there already is refused, so that sending again does no harm")
	}
	c, now := web.CallerOf(ctx), time.Now()
	var out sshKeyOutput
	err := a.Store.Update(ctx, func(tx *store.Tx) error {
		k, action, err := in.add(tx, c, now)
		if err != nil {
			return err
		}
		out.Body = sshKeyOf(k)
		return identity.Record(tx, sshKeyEvent(ctx, action, k, now))
	})
	if errors.Is(err, identity.ErrUnproven) {
		return nil, a.dispute(ctx, in.Body.PublicKey, err)
	}
	return &out, err
}

// add does what is asked for; action is its name in the audit log.
func (in *addSSHKeyInput) add(tx *store.Tx, c web.Caller, now time.Time) (k identity.SSHKey, action string, err error) {
	if in.Body.Signature != "" {
		k, err = identity.ProveSSHKey(tx, c.User, c.Account, in.Body.Name, in.Body.PublicKey, in.Body.Signature, now)
		return k, "ssh-key.prove", err
	}
	k, err = identity.AddSSHKey(tx, c.User, c.Account, in.Body.Name, in.Body.PublicKey, now)
	return k, "ssh-key.add", err
}

// dispute notes that the caller wants a key of another's profile, which has refused
// it, and says how to get it.
func (a *api) dispute(ctx context.Context, publicKey string, refused error) error {
	c, now := web.CallerOf(ctx), time.Now()
	if err := a.Store.Update(ctx, func(tx *store.Tx) error {
		_, err := identity.ChallengeSSHKey(tx, c.User, a.Box, publicKey, now)
		return err
	}); err != nil {
		return err
	}
	return web.Fail(http.StatusConflict, "conflict", "public_key",
		refused.Error()+". POST /v1/users/me/ssh-key-challenges gives a text to sign: send the signature with the key")
}

func (a *api) challengeSSHKey(ctx context.Context, in *challengeSSHKeyInput) (*challengeSSHKeyOutput, error) {
	c, now := web.CallerOf(ctx), time.Now()
	var out challengeSSHKeyOutput
	err := a.Store.Update(ctx, func(tx *store.Tx) error {
		made, err := identity.ChallengeSSHKey(tx, c.User, a.Box, in.Body.PublicKey, now)
		out.Body = sshChallenge{Challenge: made.Text, Namespace: identity.SSHNamespace, Fingerprint: made.Key.Fingerprint, ExpiresAt: made.Expires}
		return err
	})
	return &out, err
}

func (a *api) removeSSHKey(ctx context.Context, in *removeSSHKeyInput) (*struct{}, error) {
	c, now := web.CallerOf(ctx), time.Now()
	err := a.Store.Update(ctx, func(tx *store.Tx) error {
		k, err := identity.SSHKeyByID(tx, c.User, in.ID)
		if err == nil && k.Account != 0 && k.Account != c.Account {
			// Another account's: as if it were not there.
			k, err = identity.SSHKeyByID(tx, c.User, -1)
		}
		if err != nil {
			return err
		}
		if k.Account == 0 {
			return web.Fail(http.StatusForbidden, "forbidden", "", "this key opens instances of other accounts too, for which an API key of this one does not speak: remove it in the console, under SSH keys")
		}
		if err := identity.RemoveSSHKey(tx, c.User, k.ID); err != nil {
			return err
		}
		return identity.Record(tx, sshKeyEvent(ctx, "ssh-key.remove", k, now))
	})
	return nil, err
}

func sshKeyEvent(ctx context.Context, action string, k identity.SSHKey, now time.Time) identity.Event {
	c := web.CallerOf(ctx)
	return identity.Event{
		At: now, Actor: identity.KeyActor(c.Key), Action: action, Resource: fmt.Sprintf("ssh-key:%d", k.ID),
		Account: c.Account, From: originOf(ctx), Detail: fmt.Sprintf("of user %d: %s %s", k.User, k.Name, k.Fingerprint),
	}
}
