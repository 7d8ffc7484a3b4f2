package scheduler

import (
	"fmt"
	"time"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// InstanceID numbers GPU instances, from 1.
type InstanceID int64

// Instance is the record of a GPU instance: what is wanted and how far it is.
// It is changed only in transactions of this package.
type Instance struct {
	ID        InstanceID         `json:"id"`
	Account   identity.AccountID `json:"account"`
	CreatedBy identity.UserID    `json:"created_by"`
	CreatedAt time.Time          `json:"created_at"`
	APIKey    identity.KeyID     `json:"api_key,omitempty"` // that it was launched with; 0: in the browser
	Tag       string             `json:"tag,omitempty"`     // source tag of its usage
	Name      string             `json:"name"`              // unique among the account's live instances
	GPUType   string             `json:"gpu_type"`
	GPUCount  int                `json:"gpu_count"`
	// Class is its priority class; "" in records from before there were any: standard.
	Class Class  `json:"class,omitempty"`
	Image string `json:"image"`
	// ImageDigest is what Image meant at launch: what runs, also after a reboot.
	ImageDigest string            `json:"image_digest,omitempty"`
	Command     []string          `json:"command,omitempty"`
	Env         map[string]string `json:"env,omitempty"`
	// What is mounted into it. Its drives and filesystems are attached until its
	// container is gone, also while it waits for GPUs.
	Drives      []DriveMount `json:"drives,omitempty"`
	Filesystems []DriveMount `json:"filesystems,omitempty"`
	SSHKey      string       `json:"ssh_key,omitempty"` // public keys that open it, one a line
	// ServicePort is what a service in it listens on; 0 for none. ServiceOpen opens
	// that to everybody, and not only to the account's members.
	ServicePort int  `json:"service_port,omitempty"`
	ServiceOpen bool `json:"service_open,omitempty"`
	// JupyterToken is what the proxy shows the instance's Jupyter: no person ever
	// sees it. Empty when the image is none with Jupyter.
	JupyterToken string `json:"jupyter_token,omitempty"`

	// Resources are what it may use of the machine, by the operator's policy when it
	// was launched.
	Resources agent.Resources `json:"resources,omitzero"`

	Rate ledger.MicroUSD `json:"rate"` // per GPU-hour, as it was at launch
	Hold ledger.HoldID   `json:"hold"`
	Paid time.Duration   `json:"paid"` // running time that the hold covers

	State   State    `json:"state"`
	History []Change `json:"history"`
	GPUs    []string `json:"gpus,omitempty"` // UUIDs; kept until the container is gone

	// The billing clock: Ran is the time of finished spells, RunningSince begins
	// the present one. SeenRunning bounds a spell whose end nobody saw.
	Ran          time.Duration `json:"ran"`
	RunningSince time.Time     `json:"running_since,omitzero"`
	SeenRunning  time.Time     `json:"seen_running,omitzero"`
	BootID       string        `json:"boot_id,omitempty"`

	// Preemptions is how often its GPUs were taken from it.
	Preemptions int `json:"preemptions,omitempty"`

	// What went wrong last, while it is tried again, or for good.
	Problem string `json:"problem,omitempty"`
	// What happened inside it: Notices says it in words. OOMKills counts processes
	// that the kernel ended for want of memory.
	CommandEnd   *CommandEnd   `json:"command_end,omitempty"`
	ContainerEnd *ContainerEnd `json:"container_end,omitempty"`
	OOMKills     int64         `json:"oom_kills,omitempty"`
	// TerminationReason says why it ended, once it has.
	TerminationReason string `json:"termination_reason,omitempty"`
	// How its hold ended, once it has: what was charged, beyond the hold included,
	// and what came back. The ledger forgets the hold when it archives its rows.
	Charged  ledger.MicroUSD `json:"charged,omitempty"`
	Refunded ledger.MicroUSD `json:"refunded,omitempty"`
	// Unbilled was used when there was no money. Nobody is charged for it; the
	// operator sees what it cost.
	Unbilled ledger.MicroUSD `json:"unbilled,omitempty"`
}

// Change is one step of an instance's history.
type Change struct {
	State  State     `json:"state"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// Reasons why an instance ended.
const (
	ReasonUser     = "user_request"
	ReasonExpired  = "duration_expired"
	ReasonExited   = "container_exited"
	ReasonImage    = "image_pull_failed"
	ReasonStart    = "start_failed"
	ReasonWatchdog = "not_running_in_time"
	ReasonDepleted = "credit_depleted"
)

// Workload is the name that the instance's container has on the machine.
func (i Instance) Workload() string { return fmt.Sprintf("instance-%d", i.ID) }

// Resource is the name that the instance has in the ledger.
func (i Instance) Resource() string { return fmt.Sprintf("gpu-instance/%d", i.ID) }

// RanBy is how long the billing clock has run by now.
func (i Instance) RanBy(now time.Time) time.Duration {
	if i.RunningSince.IsZero() {
		return i.Ran
	}
	return i.Ran + max(0, now.Sub(i.RunningSince))
}

// Deadline is when the paid time is up; zero while the clock stands.
func (i Instance) Deadline() time.Time {
	if i.RunningSince.IsZero() {
		return time.Time{}
	}
	return i.RunningSince.Add(i.Paid - i.Ran)
}

// since is when the instance came into its present state.
func (i Instance) since() time.Time { return i.History[len(i.History)-1].At }

// billable tells whether it runs or is to run, so that its hold is open.
func (i Instance) billable() bool { return !i.State.Final() && i.State != Terminating }

// live tells whether the reconcile loop still has something to do for it.
func (i Instance) live() bool { return !i.State.Final() || len(i.GPUs) > 0 }

// Buckets. live has the instances that are not over; byAccount is every account's list.
var (
	instances         = store.NewIntCollection[InstanceID, Instance]("instances")
	liveInstances     = store.NewIntCollection[InstanceID, struct{}]("instances.live")
	instancesByOwner  = store.NewPairCollection[struct{}]("instances.by-account")
	launchesByRequest = store.NewStringCollection[string, launchRecord]("instances.idempotency")
)

// launchRecord remembers what an idempotency key launched.
type launchRecord struct {
	ID          InstanceID `json:"id"`
	Fingerprint string     `json:"fingerprint"`
}

func put(tx *store.Tx, i Instance) error {
	if err := instances.Put(tx, i.ID, i); err != nil {
		return err
	}
	if i.live() {
		return liveInstances.Put(tx, i.ID, struct{}{})
	}
	return liveInstances.Delete(tx, i.ID)
}

func get(tx *store.Tx, id InstanceID) (Instance, error) {
	i, ok, err := instances.Get(tx, id)
	if err != nil {
		return Instance{}, err
	}
	if !ok {
		return Instance{}, missing(id)
	}
	return i, nil
}

func missing(id InstanceID) error {
	return &Problem{Kind: NotFound, Message: fmt.Sprintf("there is no GPU instance %d in this account; list them with GET /v1/gpu-instances", id)}
}

// owned reads an instance of the account. Another account's instance does not
// exist, as far as the caller can tell.
func owned(tx *store.Tx, a identity.AccountID, id InstanceID) (Instance, error) {
	i, ok, err := instances.Get(tx, id)
	if err != nil {
		return Instance{}, err
	}
	if !ok || i.Account != a {
		return Instance{}, missing(id) // the same answer as for one that never was
	}
	return i, nil
}

// everyLive reads all live instances, oldest first.
func everyLive(tx *store.Tx) ([]Instance, error) {
	var out []Instance
	for rec, err := range liveInstances.All(tx) {
		if err != nil {
			return nil, err
		}
		i, err := get(tx, rec.Key)
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, nil
}

// occurrence is an event with its circumstances.
type occurrence struct {
	event  Event
	at     time.Time // of the fact: when it started, ended
	now    time.Time
	reason string
	detail string // for people
	bootID string
	seen   *agent.Observation // that told of it, if one did
}

// apply takes an instance through one transition with all its effects. It is the
// only place that changes an instance's state.
func apply(tx *store.Tx, i Instance, o occurrence) (Instance, error) {
	st, ok := next(i.State, o.event)
	if !ok {
		return i, errStale{i.ID, i.State, o.event}
	}
	if o.at.IsZero() {
		o.at = o.now
	}
	if st.effects.Has(ClockOn) {
		i.RunningSince, i.SeenRunning, i.BootID = o.at.UTC(), o.now.UTC(), o.bootID
	}
	if st.effects.Has(ClockOff) {
		// The time that it really ran, if its end was noticed late; far too late is ours.
		i.Ran = min(i.RanBy(o.at), i.Paid+billedLag)
		i.RunningSince, i.SeenRunning = time.Time{}, time.Time{}
	}
	if st.effects.Has(Free) {
		i.GPUs = nil
	}
	if st.effects.Has(LetGo) {
		if err := i.letGo(tx, o.now); err != nil {
			return i, err
		}
	}
	if o.event == Preempt {
		i.Preemptions++
	}
	if o.event == Started || o.event == Stop || o.event == Preempt || o.event == Parked {
		i.Problem = ""
	}
	if o.event == Started {
		i.CommandEnd, i.OOMKills = nil, 0 // of an earlier spell
	}
	if o.seen != nil {
		i.learn(*o.seen)
		if o.event == Exited && o.seen.Presence == agent.Exited {
			i.ContainerEnd = &ContainerEnd{Code: o.seen.ExitCode}
		}
	}
	if o.event == Fail {
		i.Problem = o.detail
	}
	if st.effects.Has(Settle) {
		i.TerminationReason = o.reason
		if err := i.settle(tx, o); err != nil {
			return i, err
		}
	}
	if st.to != i.State {
		i.State = st.to
		i.History = append(i.History, Change{State: st.to, At: o.now.UTC(), Reason: o.reason})
	}
	return i, put(tx, i)
}
