package ssh

import (
	"errors"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
)

// Login is what a user name means.
type Login struct {
	Instance string // name or number
	Session  string // of its terminals; "" for a new one
}

// ParseLogin reads a user name, NAME or NAME+SESSION. It does not know which names
// there are.
func ParseLogin(user string) (Login, error) {
	name, session, found := strings.Cut(user, "+")
	if len(user) > maxUserBytes || name == "" || found && session == "" {
		return Login{}, errors.New("the user name is an instance's name or number, or NAME+SESSION")
	}
	for _, c := range []byte(name + session) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return Login{}, errors.New("the user name is an instance's name or number, or NAME+SESSION: lower-case letters, digits and hyphens")
		}
	}
	return Login{Instance: name, Session: session}, nil
}

// Gate decides who may enter; the scheduler does.
type Gate interface {
	KnowsSSHKey(fingerprint string) (bool, error)
	EnterBySSH(name, fingerprint string) (scheduler.Entry, error)
	MayStay(e scheduler.Entry) error
}

// errRefused is all that is said to who has no key.
var errRefused = errors.New("this key opens nothing here")

// admission is a log-in under way: what its callbacks have found.
type admission struct {
	server *Server
	login  Login
	entry  scheduler.Entry
	// refusal says why there is nothing to enter, although the key is good: the
	// instance waits, or has ended.
	refusal error
	tried   bool // a key was offered
}

// config is the protocol's of one connection.
func (a *admission) config() *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-EcoLink", MaxAuthTries: maxAuthTries,
		PublicKeyAuthAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
			ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
		},
		PublicKeyCallback:         a.offered,
		VerifiedPublicKeyCallback: a.verified,
	}
	c.AddHostKey(a.server.key.signer)
	return c
}

// offered answers whether it is worth proving to have a key. That depends on the
// key alone and not on the instance: whoever knows somebody's public key, as many
// sites publish, must not learn what their instances are called.
func (a *admission) offered(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	a.tried = true
	known, err := a.server.gate.KnowsSSHKey(ssh.FingerprintSHA256(key))
	if err != nil {
		a.server.log.Error("an SSH key could not be looked up", "err", err)
		return nil, &ssh.BannerError{Err: err, Message: "EcoLink: the box can't look up keys now: try again in a moment, and tell the operator if it stays\n"}
	}
	if !known {
		return nil, errRefused
	}
	return &ssh.Permissions{}, nil
}

// verified finds what a key opens once its holder has proved to be that. A key
// that does not open this instance is refused, so that the client tries its next.
func (a *admission) verified(meta ssh.ConnMetadata, key ssh.PublicKey, p *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	say := func(err error) error {
		return &ssh.BannerError{Err: err, Message: "EcoLink: " + err.Error() + "\n"}
	}
	login, err := ParseLogin(meta.User())
	if err != nil {
		return nil, say(err)
	}
	fingerprint := ssh.FingerprintSHA256(key)
	entry, err := a.server.gate.EnterBySSH(login.Instance, fingerprint)
	var problem *scheduler.Problem
	switch {
	case err == nil:
	case !errors.As(err, &problem):
		a.server.log.Error("an SSH log-in failed", "err", err)
		return nil, say(errors.New("the box can't look up instances now: try again in a moment, and tell the operator if it stays"))
	case problem.Kind == scheduler.NotFound:
		return nil, say(err)
	default:
		a.refusal = err
	}
	a.login, a.entry = login, entry
	return p, nil
}

// record writes the log-in into the audit log. That it can't be written is no
// reason to shut people out: they may have come to make room on a full disk.
func (s *Server) record(e scheduler.Entry, from net.Addr) {
	now := time.Now()
	actor := identity.Actor("ssh-key:" + e.Fingerprint)
	if e.User != 0 {
		actor = identity.UserActor(e.User)
	}
	err := s.store.Update(s.ctx, func(tx *store.Tx) error {
		if e.User != 0 {
			if err := identity.TouchSSHKey(tx, e.User, e.Key, now); err != nil && !errors.Is(err, identity.ErrNotFound) {
				return err
			}
		}
		return identity.Record(tx, identity.Event{
			At: now, Actor: actor, Action: "ssh.login", Resource: scheduler.Instance{ID: e.Instance}.Resource(),
			Account: e.Account, From: hostOf(from), Detail: e.Name + " with the key " + e.Fingerprint,
		})
	})
	if err != nil {
		s.log.Error("an SSH log-in could not be recorded", "instance", e.Instance, "err", err)
	}
}
