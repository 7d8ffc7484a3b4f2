package drives

import "fmt"

// State is where a drive or filesystem is in its life.
//
//	            made            attach
//	pending ───────────→ available ←────→ attached
//	 │   ↑                │  │  ↑  detach
//	 │   └────────────────┘  │  └────────┐
//	 │       rebuild         ├── lapse → suspended (and back: revive)
//	 │ fail                  │ delete
//	 ↓        delete         ↓
//	failed ──→ deleted ←─ deleting
//	                 gone
//
// One that is attached when its account's money ends, or pending, is suspended
// once it is available again: nothing is taken from under somebody who has paid
// for the time.
type State string

// The states.
const (
	Pending   State = "pending"   // it, or what is to be in it, is being made
	Available State = "available" // nobody uses it
	Attached  State = "attached"
	Suspended State = "suspended" // kept, and not to be attached until there is money
	Deleting  State = "deleting"
	Deleted   State = "deleted"
	Failed    State = "failed" // it could not be made; nothing of it is there
)

// event is something that happened to a drive.
type event string

// The events.
const (
	made    event = "made"    // the machine has it, as it was asked for
	fail    event = "fail"    // the machine can't make it
	attach  event = "attach"  // its first user
	detach  event = "detach"  // its last user has let go
	rebuild event = "rebuild" // it is to have what a snapshot has
	lapse   event = "lapse"   // nobody pays for it any more
	revive  event = "revive"  // it is paid for again
	discard event = "discard" // its owner has no more use for it
	gone    event = "gone"    // nothing of it is left on the machine
)

// effects is what a transition does besides changing the state, in the same
// transaction.
type effects uint8

// The effects.
const (
	begin    effects = 1 << iota // it is billed from now on
	unbill                       // what it has cost is charged, and nothing any more
	freeName                     // another may have its name
	unlist                       // its account does not see it any more
)

func (e effects) has(f effects) bool { return e&f == f }

type step struct {
	to      State
	effects effects
}

// transitions is the whole state machine. What is not here does not happen.
var transitions = map[State]map[event]step{
	Pending: {
		made: {to: Available, effects: begin},
		fail: {to: Failed, effects: unbill | freeName},
	},
	Available: {
		attach:  {to: Attached},
		rebuild: {to: Pending},
		lapse:   {to: Suspended},
		discard: {to: Deleting, effects: unbill},
	},
	Attached: {
		detach: {to: Available},
	},
	Suspended: {
		revive: {to: Available},
	},
	Deleting: {
		gone: {to: Deleted, effects: freeName | unlist},
	},
	Failed: {
		discard: {to: Deleted, effects: unlist},
	},
	Deleted: {},
}

// next asks the table. ok is false when the event means nothing in the state.
func next(s State, e event) (step, bool) {
	st, ok := transitions[s][e]
	return st, ok
}

// errStale is returned for an event that came too late or twice: a bug of ours.
type errStale struct {
	id    ID
	state State
	event event
}

func (e errStale) Error() string {
	return fmt.Sprintf("drive %d is %s: %s means nothing there", e.id, e.state, e.event)
}
