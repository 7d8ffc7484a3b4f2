package scheduler

import (
	"fmt"
	"strconv"
	"strings"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Limits of looking for what a key opens.
const (
	maxEndedSearched = 1000 // instances that are over, for the sake of a better message
	maxNamed         = 8    // instances that a message names
)

// rootName is what people type who think of the user inside the container.
const rootName = "root"

// instancesBySSHKey finds the instances that were launched with a key, by its
// fingerprint and their number. Those that are over stay in it, so that their
// people learn what became of them.
var instancesBySSHKey = store.NewStringCollection[string, InstanceID]("instances.by-ssh-key")

func sshKeyRow(fingerprint string, id InstanceID) string {
	return fmt.Sprintf("%s/%019d", fingerprint, id)
}

// Entry is a person's way into an instance by SSH.
type Entry struct {
	Account     identity.AccountID
	Instance    InstanceID
	Name        string // of the instance
	Fingerprint string // of the key that opens it
	// User and Key say whose key it is; both are 0 when the instance was launched
	// with it.
	User identity.UserID
	Key  identity.SSHKeyID
}

// String is the instance as people know it.
func (e Entry) String() string { return fmt.Sprintf("instance %d (%s)", e.Instance, e.Name) }

// checkSSHKey reads a launch's public keys; none is fine.
func checkSSHKey(text string) ([]identity.SSHPublicKey, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	return identity.ParseSSHKeys("ssh_public_key", text)
}

// setSSHKey writes a launch's public keys into the instance and into the index.
func setSSHKey(tx *store.Tx, i *Instance, text string) error {
	keys, err := checkSSHKey(text)
	if err != nil {
		return err
	}
	var lines []string
	for _, k := range keys {
		lines = append(lines, k.Text())
		if err := instancesBySSHKey.Put(tx, sshKeyRow(k.Fingerprint, i.ID), i.ID); err != nil {
			return err
		}
	}
	i.SSHKey = strings.Join(lines, "\n")
	return nil
}

// opens is what one key opens: accounts with all their instances, and single ones
// that were launched with it.
//
// Anybody may launch an instance with anybody's public key, and call it what they
// like. Were its name good enough, Eve could wait until Ana's trainer is over and
// have one that Ana's ssh leads into. So a key that is in a profile opens others'
// instances by their number alone, which Eve can't choose.
type opens struct {
	fingerprint string
	accounts    map[identity.AccountID]identity.SSHKey
	instances   map[InstanceID]bool
	// profile is set when the key is in one; circle are the accounts of its user
	// then, also those that the key does not open as a whole.
	profile bool
	circle  map[identity.AccountID]bool
}

func opensOf(tx *store.Tx, fingerprint string) (opens, error) {
	o := opens{fingerprint: fingerprint, instances: map[InstanceID]bool{}, circle: map[identity.AccountID]bool{}}
	var err error
	if o.accounts, err = identity.AccountsOpenTo(tx, fingerprint); err != nil {
		return o, err
	}
	var key identity.SSHKey
	if key, o.profile, err = identity.SSHKeyWithFingerprint(tx, fingerprint); err != nil {
		return o, err
	}
	if o.profile {
		memberships, err := identity.MembershipsOf(tx, key.User)
		if err != nil {
			return o, err
		}
		for _, m := range memberships {
			o.circle[m.Account] = true
		}
	}
	from, to := sshKeyRow(fingerprint, 1<<62), sshKeyRow(fingerprint, 0)
	for row, err := range instancesBySSHKey.ScanDown(tx, from, to) {
		if err != nil {
			return o, err
		}
		if o.instances[row.Value] = true; len(o.instances) == maxEndedSearched {
			break
		}
	}
	return o, nil
}

func (o opens) entry(i Instance) (Entry, bool) {
	e := Entry{Account: i.Account, Instance: i.ID, Name: i.Name, Fingerprint: o.fingerprint}
	if k, ok := o.accounts[i.Account]; ok {
		e.User, e.Key = k.User, k.ID
		return e, true
	}
	return e, o.instances[i.ID]
}

// byName tells whether a name may mean an instance that the key opens: see opens.
func (o opens) byName(i Instance) bool { return !o.profile || o.circle[i.Account] }

// KnowsSSHKey tells whether a key opens anything on this box. It is asked before
// anybody has proved to have the key, and must not depend on what it opens: public
// keys are public.
func (s *Scheduler) KnowsSSHKey(fingerprint string) (known bool, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		if _, known, err = identity.SSHKeyWithFingerprint(tx, fingerprint); err != nil || known {
			return err
		}
		for _, err := range instancesBySSHKey.Scan(tx, sshKeyRow(fingerprint, 0), sshKeyRow(fingerprint, 1<<62)) {
			known = err == nil
			return err
		}
		return nil
	})
	return known, err
}

// EnterBySSH finds the instance that the holder of a key means: by the number of
// any that the key opens, by the name of a live one, or as root, when one runs and
// no other. When the key is in a profile, the last two look at the instances of its
// user's accounts alone: one that somebody else launched with the key has its
// number. What others have is NotFound as if it were not there. An instance that
// does not run comes with a Conflict that says so, and with its Entry.
func (s *Scheduler) EnterBySSH(name, fingerprint string) (e Entry, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		o, err := opensOf(tx, fingerprint)
		if err != nil {
			return err
		}
		i, err := o.find(tx, name)
		if err != nil {
			return err
		}
		e, _ = o.entry(i)
		return mustBeRunning(i)
	})
	return e, err
}

// MayStay returns nil while the entry still leads into a running instance: its
// key was not removed, its user is still in the account, and the instance runs.
func (s *Scheduler) MayStay(e Entry) error {
	return s.store.View(func(tx *store.Tx) error {
		i, ok, err := instances.Get(tx, e.Instance)
		if err != nil {
			return err
		}
		if !ok {
			return missing(e.Instance)
		}
		if err := mustBeRunning(i); err != nil {
			return err
		}
		o, err := opensOf(tx, e.Fingerprint)
		if err != nil {
			return err
		}
		now, ok := o.entry(i)
		if !ok {
			return &Problem{Kind: NotFound, Message: fmt.Sprintf("the key %s does not open %v any more", e.Fingerprint, e)}
		}
		if now.User != e.User && e.User != 0 { // another profile's key is another login
			return &Problem{Kind: NotFound, Message: fmt.Sprintf("the key that opened %v was removed: log in again", e)}
		}
		return nil
	})
}

func mustBeRunning(i Instance) error {
	if i.State == Running {
		return nil
	}
	next := "ssh leads into it while it is running"
	switch {
	case i.State.Final() || i.State == Terminating:
		next = "launch another one"
		if i.TerminationReason != "" {
			next = i.TerminationReason + ": " + next
		}
	case i.State == Pending:
		next = "it waits for GPUs; " + next
	}
	return &Problem{Kind: Conflict, Message: fmt.Sprintf("instance %d (%s) is %s: %s", i.ID, i.Name, i.State, next)}
}

// find is EnterBySSH's choice of the instance.
func (o opens) find(tx *store.Tx, name string) (Instance, error) {
	live, err := everyLive(tx)
	if err != nil {
		return Instance{}, err
	}
	var named, running, strange []Instance
	for _, i := range live {
		if _, ok := o.entry(i); !ok || i.State.Final() {
			continue
		}
		if !o.byName(i) {
			if i.Name == name {
				strange = append(strange, i)
			}
			continue
		}
		if i.Name == name {
			named = append(named, i)
		}
		if i.State == Running {
			running = append(running, i)
		}
	}
	byID, err := o.number(tx, name)
	if err != nil {
		return Instance{}, err
	}
	switch {
	case byID.ID != 0:
		// Before any that is only called so: whoever launches with another's public
		// key could else shut its holder out, by a name that is a number.
		return byID, nil
	case len(named) == 1:
		return named[0], nil
	case len(named) > 1:
		return Instance{}, ambiguous(name, named)
	case name == rootName && len(running) == 1:
		return running[0], nil
	case name == rootName && len(running) > 1:
		return Instance{}, ambiguous(name, running)
	}
	ended, err := o.ended(tx, name)
	if err != nil || ended.ID != 0 {
		return ended, err
	}
	return Instance{}, o.unknown(name, strange)
}

// unknown says that a name means nothing, and what to do about others' instances
// that are called so.
func (o opens) unknown(name string, strange []Instance) error {
	if len(strange) > 0 {
		return &Problem{Kind: NotFound, Message: fmt.Sprintf("your accounts have no instance called %q; others launched %s with your key: if you know whose it is, name it by its number", name, listed(strange))}
	}
	return &Problem{Kind: NotFound, Message: fmt.Sprintf("this key opens no instance called %q: the user name is an instance's name or number", name)}
}

// number reads the instance that name is the number of, if the key opens it.
func (o opens) number(tx *store.Tx, name string) (Instance, error) {
	id, err := strconv.ParseInt(name, 10, 64)
	if err != nil || id < 1 || strconv.FormatInt(id, 10) != name {
		return Instance{}, nil
	}
	i, ok, err := instances.Get(tx, InstanceID(id))
	if err != nil || !ok {
		return Instance{}, err
	}
	if _, ok := o.entry(i); !ok {
		return Instance{}, nil
	}
	return i, nil
}

// ended finds the newest instance that is over and that a name may mean; none is
// no error.
func (o opens) ended(tx *store.Tx, name string) (newest Instance, err error) {
	left := maxEndedSearched
	look := func(id InstanceID) (enough bool, err error) {
		i, err := get(tx, id)
		if err != nil {
			return true, err
		}
		meant := i.Name == name && o.byName(i)
		if meant && i.ID > newest.ID {
			newest = i
		}
		left--
		return meant || left <= 0, nil
	}
	for account := range o.accounts {
		for row, err := range instancesByOwner.ScanDown(tx, store.Last(int64(account)), store.First(int64(account))) {
			if err != nil {
				return newest, err
			}
			enough, err := look(InstanceID(row.Key.B))
			if err != nil {
				return newest, err
			}
			if enough {
				break
			}
		}
	}
	for id := range o.instances {
		if _, err := look(id); err != nil {
			return newest, err
		}
	}
	return newest, nil
}

func ambiguous(name string, choices []Instance) error {
	return &Problem{Kind: Conflict, Message: fmt.Sprintf("%q can be several of your instances, %s: name one by its number", name, listed(choices))}
}

// listed is the first few instances as a message has them.
func listed(choices []Instance) string {
	var list []string
	for _, i := range choices[:min(len(choices), maxNamed)] {
		list = append(list, fmt.Sprintf("%d (%s)", i.ID, i.Name))
	}
	if len(choices) > maxNamed {
		list = append(list, "…")
	}
	return strings.Join(list, ", ")
}
