package health

// State is how fit a GPU is for work.
//
//	           watch              rest                 fail
//	healthy ─────────→ watched ─────────→ resting ─────────→ cordoned
//	   ↑ ↑                │ ↑                │ │                 │
//	   │ └──── calm ──────┘ └──── rested ────┘ │                 │
//	   ├──────────────── calm ─────────────────┘                 │
//	   └──────────────────────── uncordon ───────────────────────┘
//
// Every state goes to resting by `rest` and to cordoned by `fail`, but nothing
// except `uncordon`, the operator's word after a test, leads out of cordoned.
// `uncordon` leads from every state to healthy.
type State string

// The states.
const (
	Healthy  State = "healthy"
	Watched  State = "watched"  // in use; the operator should know something
	Resting  State = "resting"  // cordoned until what troubles it has been over for a while
	Cordoned State = "cordoned" // cordoned until the operator uncordons it
)

// TakesWork says that new work may be placed on the GPU. What runs there already
// goes on in every state.
func (s State) TakesWork() bool { return s == Healthy || s == Watched }

// stimulus is what moves a GPU from state to state.
type stimulus string

const (
	watch    stimulus = "watch"    // a finding to watch
	rest     stimulus = "rest"     // a finding that cordons and passes
	fail     stimulus = "fail"     // a finding that cordons and lasts
	rested   stimulus = "rested"   // no finding that cordons is left, one to watch is
	calm     stimulus = "calm"     // no finding is left
	uncordon stimulus = "uncordon" // the operator's word
)

// transitions is the whole state machine; what is not in a row leaves the state
// as it is.
func transitions() map[State]map[stimulus]State {
	return map[State]map[stimulus]State{
		Healthy:  {watch: Watched, rest: Resting, fail: Cordoned},
		Watched:  {rest: Resting, fail: Cordoned, calm: Healthy, uncordon: Healthy},
		Resting:  {fail: Cordoned, rested: Watched, calm: Healthy, uncordon: Healthy},
		Cordoned: {uncordon: Healthy},
	}
}

func (s State) after(e stimulus) State {
	if to, ok := transitions()[s][e]; ok {
		return to
	}
	return s
}
