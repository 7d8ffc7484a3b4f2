package identity

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"ecolink/ledger/store"
)

// SSHNamespace is what a proof is signed for: ssh-keygen -Y sign -n. A signature
// that was made for anything else proves nothing here, and the reverse.
const SSHNamespace = "ecolink-ssh-key"

// ErrUnproven is an ErrExists that a proof settles: the key is in another profile,
// whose user has not proved to have its private half.
var ErrUnproven = fmt.Errorf("held without a proof: %w", ErrExists)

// SSHChallenge is a text for `ssh-keygen -Y sign`. It is one line without spaces or
// anything that a shell reads, and names the box and the user, so that who signs
// it can see for whom.
type SSHChallenge struct {
	Key     SSHPublicKey
	Text    string
	Expires time.Time
}

// LostSSHKey is a key that another user proved to have.
type LostSSHKey struct {
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	At          time.Time `json:"at"`
}

// sshProof is what a user has under way: one challenge at a time, and the keys of
// others' profiles that they have asked for, oldest first.
type sshProof struct {
	Fingerprint string    `json:"fingerprint,omitempty"`
	Text        string    `json:"text,omitempty"`
	Expires     time.Time `json:"expires,omitzero"`
	Asked       []string  `json:"asked,omitempty"`
	// Told is when disputes of theirs were events, in the last day.
	Told []time.Time `json:"told,omitempty"`
}

var (
	sshProofs   = store.NewIntCollection[UserID, sshProof]("identity.ssh-proofs")
	sshKeyAsks  = store.NewStringCollection[string, time.Time]("identity.ssh-key-asks") // by fingerprint and user, as the holders
	sshKeysLost = store.NewIntCollection[UserID, []LostSSHKey]("identity.ssh-keys-lost")
)

// ChallengeSSHKey makes the text by which a user proves to have a key, in place of
// any that they have asked for before. box is the host that people know the box by.
// A key that somebody has proved already is ErrExists. One that is in another's
// profile without a proof is in dispute from now on: see SSHKeyDisputed. The first
// time that the user asks in a dispute is an event ssh-key.dispute in the audit log
// of every account that the key opens, which does not say who, and in the
// operators', which does; of one user maxSSHKeysAsked a day at most.
func ChallengeSSHKey(tx *store.Tx, user UserID, box, text string, now time.Time) (SSHChallenge, error) {
	key, err := parseOneSSHKey(text)
	if err != nil {
		return SSHChallenge{}, err
	}
	u, err := UserByID(tx, user)
	if err != nil {
		return SSHChallenge{}, err
	}
	p, _, err := sshProofs.Get(tx, user)
	if err != nil {
		return SSHChallenge{}, err
	}
	held, ok, err := SSHKeyWithFingerprint(tx, key.Fingerprint)
	switch {
	case err != nil:
		return SSHChallenge{}, err
	case ok && held.IsProven() && held.User == user:
		return SSHChallenge{}, alreadyTheirs(held)
	case ok && held.IsProven():
		return SSHChallenge{}, provenElsewhere()
	case ok && held.User != user:
		if err := p.ask(tx, user, held, now); err != nil {
			return SSHChallenge{}, err
		}
	}
	p.Fingerprint, p.Expires = key.Fingerprint, instant(now.Add(SSHChallengeLife))
	p.Text = strings.Join([]string{"ecolink", shellSafe(box), shellSafe(u.Email), key.Fingerprint, newToken()}, ":")
	return SSHChallenge{Key: key, Text: p.Text, Expires: p.Expires}, sshProofs.Put(tx, user, p)
}

// OpenSSHChallenge is the challenge that a user could answer now for a key; ok is
// false when there is none.
func OpenSSHChallenge(tx *store.Tx, user UserID, text string, now time.Time) (c SSHChallenge, ok bool, err error) {
	key, err := parseOneSSHKey(text)
	if err != nil {
		return SSHChallenge{}, false, err
	}
	p, _, err := sshProofs.Get(tx, user)
	if err != nil || !p.answers(key, now) {
		return SSHChallenge{}, false, err
	}
	return SSHChallenge{Key: key, Text: p.Text, Expires: p.Expires}, true, nil
}

// answers tells whether a proof for the key could answer its challenge now.
func (p sshProof) answers(key SSHPublicKey, now time.Time) bool {
	return p.Text != "" && p.Fingerprint == key.Fingerprint && now.Before(p.Expires)
}

// ask notes that the user wants a key of another's profile. They may have asked
// before, in a dispute that is over. Their first time in this one is an event, as
// long as they make no more of them than that: who asks for many keys round and round
// fills nobody's log.
func (p *sshProof) ask(tx *store.Tx, user UserID, held SSHKey, now time.Time) error {
	fingerprint := held.Fingerprint
	_, again, err := sshKeyAsks.Get(tx, holderOf(fingerprint, user))
	if err != nil {
		return err
	}
	p.Told = slices.DeleteFunc(p.Told, func(at time.Time) bool { return now.Sub(at) >= disputeEventsWithin })
	if !again && len(p.Told) < maxSSHKeysAsked {
		if err := recordDispute(tx, user, held, now); err != nil {
			return err
		}
		p.Told = append(p.Told, now.UTC())
	}
	p.Asked = slices.DeleteFunc(p.Asked, func(asked string) bool { return asked == fingerprint })
	p.Asked = append(p.Asked, fingerprint)
	if len(p.Asked) > maxSSHKeysAsked {
		if err := sshKeyAsks.Delete(tx, holderOf(p.Asked[0], user)); err != nil {
			return err
		}
		p.Asked = p.Asked[1:]
	}
	return sshKeyAsks.Put(tx, holderOf(fingerprint, user), instant(now))
}

// recordDispute writes into the audit log of every account that a key opens why it
// enters nothing by name any more, and into the operators' who has asked for it. Of
// several who have the key in their profiles only the first opens anything.
func recordDispute(tx *store.Tx, user UserID, held SSHKey, now time.Time) error {
	opened, err := accountsOf(tx, held)
	if err != nil {
		return err
	}
	e := Event{
		At: now, Actor: System, Action: "ssh-key.dispute", Resource: fmt.Sprintf("ssh-key:%d", held.ID),
		Detail: fmt.Sprintf("of user %d: %s %s: another user asked for it, so that it enters nothing by name until one of them proves to have its private half", held.User, held.Name, held.Fingerprint),
	}
	for _, e.Account = range opened {
		if err := Record(tx, e); err != nil { // not by whom: see takeSSHKey
			return err
		}
	}
	e.Account, e.Actor = 0, UserActor(user)
	return Record(tx, e)
}

// ProveSSHKey gives a user a key as AddSSHKey does, with the proof that they have
// its private half: the armored signature over the text of ChallengeSSHKey, which
// counts once. A key of their own that had no proof has it then, and opens what it
// did: if that is one account, and another is named, it is ErrExists. One that others
// hold without a proof is taken from them, with an event in the audit log of every
// account that it opened, and a LostSSHKey. One that another has proved to have is
// ErrExists, whatever the proof.
func ProveSSHKey(tx *store.Tx, user UserID, account AccountID, name, text, signature string, now time.Time) (SSHKey, error) {
	key, err := parseOneSSHKey(text)
	if err != nil {
		return SSHKey{}, err
	}
	if err := useSSHChallenge(tx, user, key, signature, now); err != nil {
		return SSHKey{}, err
	}
	all, err := sshKeysWithFingerprint(tx, key.Fingerprint)
	if err != nil {
		return SSHKey{}, err
	}
	var own *SSHKey
	for _, k := range all {
		switch {
		case k.User == user:
			own = &k
		case k.IsProven():
			return SSHKey{}, provenElsewhere()
		default:
			if err := takeSSHKey(tx, k, now); err != nil {
				return SSHKey{}, err
			}
		}
	}
	if err := forgetSSHKeyAsks(tx, key.Fingerprint); err != nil {
		return SSHKey{}, err
	}
	switch {
	case own == nil:
		return insertSSHKey(tx, user, account, name, key, now, instant(now))
	case own.IsProven():
		return SSHKey{}, alreadyTheirs(*own)
	case account != 0 && own.Account != 0 && own.Account != account:
		return SSHKey{}, failField(ErrExists, "public_key", "you have the key %s already, as number %d, for another of your accounts alone, and a proof would not have it open this one: prove it with an API key of that account or in the console, or remove it there and add it here", own.Fingerprint, own.ID)
	}
	own.Proven = instant(now)
	return *own, sshKeys.Put(tx, own.ID, *own)
}

// useSSHChallenge checks a proof and uses its challenge up.
func useSSHChallenge(tx *store.Tx, user UserID, key SSHPublicKey, signature string, now time.Time) error {
	p, _, err := sshProofs.Get(tx, user)
	if err != nil {
		return err
	}
	if !p.answers(key, now) {
		return failField(ErrInvalid, "signature", "there is no challenge for this key that it could answer, or it is too old: ask for another and sign that")
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key.Line))
	if err != nil {
		return err
	}
	// echo, and what Windows makes of it, end the line in these ways.
	for _, end := range []string{"\n", "", "\r\n", " \r\n"} {
		if err = verifySSHSignature(public, SSHNamespace, p.Text+end, signature); err == nil {
			break
		}
	}
	if err != nil {
		return failField(ErrInvalid, "signature", "the signature does not prove that you have the key %s: %v. Sign the newest challenge with ssh-keygen -Y sign -n %s", key.Fingerprint, err, SSHNamespace)
	}
	p.Fingerprint, p.Text, p.Expires = "", "", time.Time{}
	return sshProofs.Put(tx, user, p)
}

// takeSSHKey removes a key from a user who had not proved to have it, and tells them.
func takeSSHKey(tx *store.Tx, k SSHKey, now time.Time) error {
	opened, err := accountsOf(tx, k)
	if err != nil {
		return err
	}
	if err := RemoveSSHKey(tx, k.User, k.ID); err != nil {
		return err
	}
	lost, _, err := sshKeysLost.Get(tx, k.User)
	if err != nil {
		return err
	}
	lost = append([]LostSSHKey{{Name: k.Name, Fingerprint: k.Fingerprint, At: instant(now)}}, lost...)
	if err := sshKeysLost.Put(tx, k.User, lost[:min(len(lost), maxSSHKeysLost)]); err != nil {
		return err
	}
	if len(opened) == 0 {
		opened = []AccountID{0}
	}
	for _, a := range opened {
		// Not by whom: who can prove a key need not be known to who could not.
		if err := Record(tx, Event{
			At: now, Actor: System, Action: "ssh-key.taken", Resource: fmt.Sprintf("ssh-key:%d", k.ID), Account: a,
			Detail: fmt.Sprintf("of user %d: %s %s: another user proved to have its private half", k.User, k.Name, k.Fingerprint),
		}); err != nil {
			return err
		}
	}
	return nil
}

// ListLostSSHKeys lists what a user has lost of late to who proved to have it,
// newest first.
func ListLostSSHKeys(tx *store.Tx, user UserID, now time.Time) ([]LostSSHKey, error) {
	lost, _, err := sshKeysLost.Get(tx, user)
	return slices.DeleteFunc(lost, func(k LostSSHKey) bool { return now.Sub(k.At) > lostSSHKeyShown }), err
}

// SSHKeyDisputed tells whether another user wanted a key while its user had not
// proved to have it. Either may be the one who has it. It stays so until one of
// them proves it, however often the other removes the key and adds it again.
func SSHKeyDisputed(tx *store.Tx, k SSHKey) (bool, error) {
	if k.IsProven() {
		return false, nil
	}
	own := holderOf(k.Fingerprint, k.User)
	for row, err := range sshKeyAsks.Scan(tx, k.Fingerprint+"/", k.Fingerprint+"/~") {
		if err != nil || row.Key != own {
			return err == nil, err
		}
	}
	return false, nil
}

// forgetSSHKeyAsks ends a dispute. Those who asked may still have it in their list,
// which does no harm.
func forgetSSHKeyAsks(tx *store.Tx, fingerprint string) error {
	var rows []string
	for row, err := range sshKeyAsks.Scan(tx, fingerprint+"/", fingerprint+"/~") {
		if err != nil {
			return err
		}
		rows = append(rows, row.Key)
	}
	for _, key := range rows {
		if err := sshKeyAsks.Delete(tx, key); err != nil {
			return err
		}
	}
	return nil
}

func alreadyTheirs(k SSHKey) error {
	return failField(ErrExists, "public_key", "you have the key %s already, as number %d: use that one, or remove it first", k.Fingerprint, k.ID)
}

func provenElsewhere() error {
	return failField(ErrExists, "public_key", "this key is in another profile already, and its user has proved to have it: make one of your own with ssh-keygen, or have it removed there")
}

func unprovenElsewhere() error {
	return failField(ErrUnproven, "public_key", "this key is in another profile already, without a proof that its user has the private half: if you have that, prove it, and the key is yours. Until somebody does, ssh takes no names with it, but numbers alone")
}

// shellSafe keeps of a text what no shell reads.
func shellSafe(s string) string {
	return strings.Map(func(r rune) rune {
		if lowerOrDigit(byte(r)) && r < 128 || r >= 'A' && r <= 'Z' || strings.ContainsRune("@.+-_:", r) {
			return r
		}
		return '_'
	}, s)
}
