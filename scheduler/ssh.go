package scheduler

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Limits of looking for what a key opens.
const (
	maxLaunchersSearched = 128 // accounts that launched with a key, for the sake of a better message
	maxNamed             = 8   // instances that a message names
)

// rootName is what people type who think of the user inside the container.
const rootName = "root"

// What a log-in is looked up in. Instances that are over stay, so that their people
// learn what became of them.
var (
	// instancesBySSHKey has the instances that were launched with a key, by its
	// fingerprint and their number.
	instancesBySSHKey = store.NewStringCollection[string, InstanceID]("instances.by-ssh-key")
	// sshKeyLaunchers has the accounts that ever launched with a key, by its
	// fingerprint and theirs, and the newest of these instances.
	sshKeyLaunchers = store.NewStringCollection[string, InstanceID]("instances.ssh-key-launchers")
	// instancesByName has the newest instance of each name in an account: the live
	// one, when there is one.
	instancesByName = store.NewStringCollection[string, InstanceID]("instances.by-name")
)

func sshKeyRow(fingerprint string, id InstanceID) string {
	return fmt.Sprintf("%s/%019d", fingerprint, id)
}

func launcherRow(fingerprint string, a identity.AccountID) string {
	return fmt.Sprintf("%s/%019d", fingerprint, a)
}

func nameRow(a identity.AccountID, name string) string { return fmt.Sprintf("%d/%s", a, name) }

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

// setSSHKey writes a launch's public keys into the instance.
func setSSHKey(i *Instance, text string) error {
	keys, err := checkSSHKey(text)
	if err != nil {
		return err
	}
	var lines []string
	for _, k := range keys {
		lines = append(lines, k.Text())
	}
	i.SSHKey = strings.Join(lines, "\n")
	return nil
}

// indexForSSH has an instance found by those who log in. The newest must come last.
func (i Instance) indexForSSH(tx *store.Tx) error {
	if err := instancesByName.Put(tx, nameRow(i.Account, i.Name), i.ID); err != nil {
		return err
	}
	keys, err := checkSSHKey(i.SSHKey)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := instancesBySSHKey.Put(tx, sshKeyRow(k.Fingerprint, i.ID), i.ID); err != nil {
			return err
		}
		if err := sshKeyLaunchers.Put(tx, launcherRow(k.Fingerprint, i.Account), i.ID); err != nil {
			return err
		}
	}
	return nil
}

// indexAgain is indexForSSH of what an EcoLink without these indexes has launched.
func (i Instance) indexAgain(tx *store.Tx) error {
	newest, ok, err := instancesByName.Get(tx, nameRow(i.Account, i.Name))
	if err != nil || ok && newest >= i.ID {
		return err
	}
	return i.indexForSSH(tx)
}

// opens is what one key opens: accounts with all their instances, and single ones
// that were launched with it.
//
// Anybody may put anybody's public key into a launch, or into their own profile
// before its holder does, and call an instance what they like. So a number, which
// nobody can choose, always counts, and a name only where it is sure whose it is:
// see named.
type opens struct {
	tx          *store.Tx
	fingerprint string
	key         identity.SSHKey             // that is in a profile; its ID is 0 when none is
	circle      map[identity.AccountID]bool // accounts of its user, also those that it does not open as a whole
}

func opensOf(tx *store.Tx, fingerprint string) (opens, error) {
	o := opens{tx: tx, fingerprint: fingerprint, circle: map[identity.AccountID]bool{}}
	key, ok, err := identity.SSHKeyWithFingerprint(tx, fingerprint)
	if err != nil || !ok {
		return o, err
	}
	o.key = key
	memberships, err := identity.MembershipsOf(tx, key.User)
	for _, m := range memberships {
		o.circle[m.Account] = true
	}
	return o, err
}

func (o opens) entry(i Instance) (e Entry, ok bool, err error) {
	e = Entry{Account: i.Account, Instance: i.ID, Name: i.Name, Fingerprint: o.fingerprint}
	if o.circle[i.Account] && (o.key.Account == 0 || o.key.Account == i.Account) {
		e.User, e.Key = o.key.User, o.key.ID
		return e, true, nil
	}
	_, ok, err = instancesBySSHKey.Get(o.tx, sshKeyRow(o.fingerprint, i.ID))
	return e, ok, err
}

// named lists the accounts in which a name is looked for. They are the user's own,
// when the key is in a profile whose user has proved to have it: what others
// launched with it has its number. Without a proof nobody can tell the holder from
// who has only copied the public key, so that they count as long as nobody else
// lays claim to it: another user by a profile, or another account by a launch.
// Likewise a key that is in no profile means the account that has launched with it,
// as long as it is the only one that ever has.
func (o opens) named() (accounts []identity.AccountID, err error) {
	for a := range o.circle {
		accounts = append(accounts, a)
	}
	slices.Sort(accounts)
	if o.key.IsProven() {
		return accounts, nil
	}
	if o.key.ID != 0 {
		if disputed, err := identity.SSHKeyDisputed(o.tx, o.key); err != nil || disputed {
			return nil, cmp.Or(err, inDoubt("it is in one profile without a proof, and another user says that it is theirs"))
		}
	}
	for launcher, err := range o.launchers() {
		switch {
		case err != nil:
			return nil, err
		case o.circle[launcher]:
		case o.key.ID != 0:
			return nil, inDoubt("it is in a profile without a proof, and another account has launched with it")
		case len(accounts) > 0:
			return nil, inDoubt("several accounts have launched with it")
		default:
			accounts = append(accounts, launcher)
		}
	}
	return accounts, nil
}

// inDoubt refuses a name. It names no instances: one of them may be a trap.
func inDoubt(why string) error {
	return &Problem{Kind: NotFound, Message: "a name could lead this key into somebody else's instance: " + why +
		". Use the instance's number, which `ecolink instance ls` and the console show, or prove that the key is yours: `ecolink ssh-key add`, or SSH keys in the console"}
}

// launchers yields the accounts that ever launched with the key.
func (o opens) launchers() iter.Seq2[identity.AccountID, error] {
	return func(yield func(identity.AccountID, error) bool) {
		for row, err := range sshKeyLaunchers.Scan(o.tx, launcherRow(o.fingerprint, 0), launcherRow(o.fingerprint, math.MaxInt64)) {
			var account int64
			if err == nil {
				account, err = strconv.ParseInt(strings.TrimPrefix(row.Key, o.fingerprint+"/"), 10, 64)
			}
			if !yield(identity.AccountID(account), err) {
				return
			}
		}
	}
}

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
// no other. The last two look only where it is sure whose the key is: see
// opens.named. What others have is NotFound as if it were not there. An instance
// that does not run comes with a Conflict that says so, and with its Entry.
func (s *Scheduler) EnterBySSH(name, fingerprint string) (e Entry, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		o, err := opensOf(tx, fingerprint)
		if err != nil {
			return err
		}
		i, err := o.find(name)
		if err != nil {
			return err
		}
		if e, _, err = o.entry(i); err != nil {
			return err
		}
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
		now, ok, err := o.entry(i)
		if err != nil {
			return err
		}
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
func (o opens) find(name string) (Instance, error) {
	// A number goes before any instance that is only called so: whoever launches
	// with another's public key could else shut its holder out.
	byID, err := o.number(name)
	if err != nil || byID.ID != 0 {
		return byID, err
	}
	accounts, err := o.named()
	if err != nil {
		return Instance{}, err
	}
	live, ended, err := o.called(name, accounts)
	if err != nil {
		return Instance{}, err
	}
	if len(live) == 0 && name == rootName {
		if live, err = o.running(accounts); err != nil {
			return Instance{}, err
		}
	}
	switch {
	case len(live) == 1:
		return live[0], nil
	case len(live) > 1:
		return Instance{}, ambiguous(name, live)
	case ended.ID != 0:
		return ended, nil
	}
	return Instance{}, o.unknown(name)
}

// called finds the instances of some accounts that have a name and that the key
// opens: those that live, and the newest that is over.
func (o opens) called(name string, accounts []identity.AccountID) (live []Instance, ended Instance, err error) {
	for _, a := range accounts {
		i, ok, err := o.calledIn(a, name)
		switch {
		case err != nil:
			return nil, ended, err
		case ok && !i.State.Final():
			live = append(live, i)
		case ok && i.ID > ended.ID:
			ended = i
		}
	}
	return live, ended, nil
}

// calledIn finds the newest instance of a name in an account, if the key opens it.
func (o opens) calledIn(a identity.AccountID, name string) (i Instance, ok bool, err error) {
	id, ok, err := instancesByName.Get(o.tx, nameRow(a, name))
	if err != nil || !ok {
		return Instance{}, false, err
	}
	if i, err = get(o.tx, id); err != nil {
		return Instance{}, false, err
	}
	_, ok, err = o.entry(i)
	return i, ok, err
}

// running finds the instances of some accounts that run and that the key opens.
func (o opens) running(accounts []identity.AccountID) (out []Instance, err error) {
	live, err := everyLive(o.tx)
	if err != nil {
		return nil, err
	}
	for _, i := range live {
		if i.State != Running || !slices.Contains(accounts, i.Account) {
			continue
		}
		_, ok, err := o.entry(i)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, i)
		}
	}
	return out, nil
}

// unknown says that a name means nothing, and what to do about others' instances
// that are called so.
func (o opens) unknown(name string) error {
	var strange []Instance
	searched := 0
	for a, err := range o.launchers() {
		if err != nil {
			return err
		}
		if searched++; searched > maxLaunchersSearched {
			break
		}
		if o.circle[a] {
			continue
		}
		i, ok, err := o.calledIn(a, name)
		if err != nil {
			return err
		}
		if ok && !i.State.Final() {
			strange = append(strange, i)
		}
	}
	if len(strange) > 0 {
		return &Problem{Kind: NotFound, Message: fmt.Sprintf("your accounts have no instance called %q; others launched %s with your key: if you know whose it is, name it by its number", name, listed(strange))}
	}
	return &Problem{Kind: NotFound, Message: fmt.Sprintf("this key opens no instance called %q: the user name is an instance's name or number", name)}
}

// number reads the instance that name is the number of, if the key opens it.
func (o opens) number(name string) (Instance, error) {
	id, err := strconv.ParseInt(name, 10, 64)
	if err != nil || id < 1 || strconv.FormatInt(id, 10) != name {
		return Instance{}, nil
	}
	i, ok, err := instances.Get(o.tx, InstanceID(id))
	if err != nil || !ok {
		return Instance{}, err
	}
	if _, ok, err = o.entry(i); err != nil || !ok {
		return Instance{}, err
	}
	return i, nil
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
