package scheduler

import "fmt"

// State is where an instance is in its life.
//
//	pending ─assigned→ pulling ─pulled→ starting ─started→ running
//	   │                  │                │  ↑               │ │
//	   │                  │                │  └───rebooted────┘ │
//	   │ stop             │ stop, fail     │ stop, fail         │ stop, exited
//	   ↓                  ↓                ↓                    ↓
//	terminated ←cleaned─ terminating ←──────────────────────────┘
//	failed (from pulling and starting; cleaned frees its GPUs)
//
//	pulling, starting, running ─preempt→ preempted ─assigned→ starting
//	                                       │  ↑ │ stop
//	                                       └──┘ └→ terminating
//	                                      parked
//
// A preempted instance keeps its GPUs until its container has stopped (parked), and
// its container's file system until it ends.
//
// The watchdog can heal: `started` also leads from pulling to running, when the
// machine turns out to run what the record does not know of.
type State string

// The states of SPEC.md 2.
const (
	Pending     State = "pending"
	Pulling     State = "pulling"
	Starting    State = "starting"
	Running     State = "running"
	Preempted   State = "preempted"
	Terminating State = "terminating"
	Terminated  State = "terminated"
	Failed      State = "failed"
)

// Event is something that happened to an instance.
type Event string

// The events.
const (
	Assigned Event = "assigned" // it got its GPUs
	Pulled   Event = "pulled"   // its image is here
	Started  Event = "started"  // its container runs
	Stop     Event = "stop"     // the user, the clock or the money ends it
	Exited   Event = "exited"   // its container ended by itself
	Rebooted Event = "rebooted" // the box was restarted under it
	Fail     Event = "fail"     // it can't be brought to run
	Cleaned  Event = "cleaned"  // nothing of it is left on the machine
	Preempt  Event = "preempt"  // its GPUs go to a request of a higher class
	Parked   Event = "parked"   // preempted, it has stopped and can go on later
)

// Effects is what a transition does besides changing the state, in the same
// transaction.
type Effects uint8

// The effects.
const (
	ClockOn  Effects = 1 << iota // the billing clock starts
	ClockOff                     // the billing clock stops
	Settle                       // the hold is settled: used time is charged, the rest refunded
	Free                         // its GPUs go to whoever is next
	LetGo                        // its drives can be attached elsewhere
)

// Has tells whether e includes all of f.
func (e Effects) Has(f Effects) bool { return e&f == f }

type step struct {
	to      State
	effects Effects
}

// transitions is the whole state machine. What is not here does not happen.
//
// A hold is settled when the instance leaves the states in which it can be
// billed, not when its container is gone: a user gets the refund at once. GPUs
// are freed and drives let go only when the container is gone.
var transitions = map[State]map[Event]step{
	Pending: {
		Assigned: {to: Pulling},
		Stop:     {to: Terminated, effects: Settle | LetGo},
	},
	Pulling: {
		Pulled:  {to: Starting},
		Started: {to: Running, effects: ClockOn},
		Stop:    {to: Terminating, effects: Settle},
		Fail:    {to: Failed, effects: Settle},
		Preempt: {to: Preempted},
	},
	Starting: {
		Started: {to: Running, effects: ClockOn},
		Stop:    {to: Terminating, effects: Settle},
		Fail:    {to: Failed, effects: Settle},
		Preempt: {to: Preempted},
	},
	Running: {
		Stop:     {to: Terminating, effects: ClockOff | Settle},
		Exited:   {to: Terminating, effects: ClockOff | Settle},
		Rebooted: {to: Starting, effects: ClockOff},
		Preempt:  {to: Preempted, effects: ClockOff},
	},
	Preempted: {
		Parked:   {to: Preempted, effects: Free},
		Assigned: {to: Starting},
		Stop:     {to: Terminating, effects: Settle},
	},
	Terminating: {
		Cleaned: {to: Terminated, effects: Free | LetGo},
	},
	Failed: {
		Cleaned: {to: Failed, effects: Free | LetGo},
	},
	Terminated: {},
}

// next asks the table. ok is false when the event means nothing in the state.
func next(s State, e Event) (step, bool) {
	st, ok := transitions[s][e]
	return st, ok
}

// Final tells whether the state is one that an instance does not leave.
func (s State) Final() bool { return s == Terminated || s == Failed }

// errStale is returned for an event that came too late or twice.
type errStale struct {
	id    InstanceID
	state State
	event Event
}

func (e errStale) Error() string {
	return fmt.Sprintf("instance %d is %s: %s means nothing there", e.id, e.state, e.event)
}
