package placement

import "time"

// GPU is one whole GPU as placement sees it.
type GPU struct {
	UUID  string
	Index int
	Type  string
	Peers []int // indexes of GPUs with a direct NVLink
}

// Class is a priority class. A higher one goes first, and may preempt lower ones.
type Class int

// The classes of SPEC.md 2.
const (
	Spot Class = iota + 1
	Standard
	Platform
)

// Request asks for Count GPUs of a type, all at once or none.
type Request struct {
	ID      int64
	Type    string
	Count   int
	Class   Class
	Account int64
	Waited  time.Duration // for GPUs, until now
	Needs   time.Duration // how long it keeps them at most, as far as is known
}

// Run is what has GPUs now.
type Run struct {
	ID      int64
	Type    string
	Count   int
	Class   Class
	Account int64
	Spell   time.Duration // that it has run without a break
	EndsIn  time.Duration // at the latest, as far as is known
	// KeptFor is how long it can't be preempted yet; 0: it can.
	KeptFor time.Duration
	// Leaving says that it ends or is preempted already, and its GPUs are about to
	// be free.
	Leaving bool
}

// Question is the state of a machine: the GPUs that nobody has, who has the others,
// and who waits.
type Question struct {
	Free  []GPU
	Runs  []Run
	Queue []Request
}

// Plan is the answer: who gets which GPUs now, and who gives theirs up.
type Plan struct {
	Assign  []Assignment
	Preempt []Preemption
	// Waits are the requests that got nothing, the next first.
	Waits []Wait
}

// Assignment gives a request its GPUs.
type Assignment struct {
	ID    int64
	UUIDs []string
}

// Preemption takes the GPUs of a run for the sake of a request.
type Preemption struct {
	Run, For int64
}

// Wait is what a request waits for.
type Wait struct {
	ID int64
	// StartsIn is when there are GPUs for it, by what is known of the others' ends and
	// of who can be preempted when; 0: they are being freed for it. Of those that wait
	// behind another for the same type it is Unknown.
	StartsIn time.Duration
	// Never says that there are too few GPUs of the type, whoever ends.
	Never bool
}

// Unknown is a length of time that nothing is known of.
const Unknown = time.Duration(1<<63 - 1)

// Place answers a question. What is always true of the answer:
//
//   - No GPU is assigned twice; a request gets all that it asks for or nothing.
//   - Requests go by class; within a class by fair share, where waiting counts: see
//     first.
//   - The first request that finds no room keeps a reservation. Those behind it get
//     what it can't use, or what they are sure to give back in time (backfill).
//   - Runs of a lower class are preempted when that makes room for a request and takes
//     nothing from a reservation, the least harmful choice of them: see victims. None is
//     preempted in vain.
func Place(q Question) Plan {
	p := newPlanner(q)
	for len(p.waiting) > 0 {
		n := p.first()
		r := p.waiting[n]
		p.waiting = append(p.waiting[:n], p.waiting[n+1:]...)
		if !p.assign(r) {
			p.wait(r)
		}
	}
	return p.plan
}

// agingStep is how long a wait is worth one GPU of an account's share. So nobody waits
// for ever behind accounts that have less: on a machine with n GPUs, who has waited n
// steps longer than another goes first.
const agingStep = 10 * time.Minute

// planner is a question that is being answered.
type planner struct {
	plan    Plan
	free    []GPU
	runs    []Run
	waiting []Request
	share   map[share]int // GPUs in use
	pools   map[string]*pool
}

// share is what fair share is reckoned in: an account's GPUs within a class.
type share struct {
	class   Class
	account int64
}

// pool is the GPUs of a type: those that are free, and what is reserved of them.
type pool struct {
	free    int
	leaving int // about to be free
	claimed int // of both, for requests that wait for no more than those
	head    *reservation
}

// spare is how many are neither in use nor claimed.
func (p *pool) spare() int { return p.free + p.leaving - p.claimed }

// reservation is for the first request that finds no room, at the time when enough
// others have ended.
type reservation struct {
	at    time.Duration
	extra int // that it leaves over then
}

// passes tells whether the request may go before what is reserved: it ends in time, or
// needs no more than what is left over. Nothing may be reserved.
func (h *reservation) passes(r Request) bool {
	return h == nil || r.Needs <= h.at || r.Count <= h.extra
}

// take notes that a request has gone before.
func (h *reservation) take(r Request) {
	if h != nil && r.Needs > h.at {
		h.extra -= r.Count
	}
}

func newPlanner(q Question) *planner {
	p := &planner{
		free: append([]GPU(nil), q.Free...), runs: append([]Run(nil), q.Runs...), waiting: append([]Request(nil), q.Queue...),
		share: map[share]int{}, pools: map[string]*pool{},
	}
	for _, g := range q.Free {
		p.pool(g.Type).free++
	}
	for _, r := range q.Runs {
		if r.Leaving {
			p.pool(r.Type).leaving += r.Count
		} else {
			p.share[share{r.Class, r.Account}] += r.Count
		}
	}
	return p
}

func (p *planner) pool(gpuType string) *pool {
	if p.pools[gpuType] == nil {
		p.pools[gpuType] = &pool{}
	}
	return p.pools[gpuType]
}

// first is the place of the request that goes first of those that wait: of the highest
// class; then of the account with the fewest GPUs in it, where each agingStep of
// waiting counts as a GPU less; then who has waited longest; then the lowest number.
func (p *planner) first() int {
	best := 0
	for n := range p.waiting {
		if p.before(p.waiting[n], p.waiting[best]) {
			best = n
		}
	}
	return best
}

func (p *planner) before(a, b Request) bool {
	if a.Class != b.Class {
		return a.Class > b.Class
	}
	if x, y := p.debt(a), p.debt(b); x != y {
		return x < y
	}
	if a.Waited != b.Waited {
		return a.Waited > b.Waited
	}
	return a.ID < b.ID
}

func (p *planner) debt(r Request) time.Duration {
	return time.Duration(p.share[share{r.Class, r.Account}])*agingStep - r.Waited
}

// assign gives the request GPUs, if it may have some that are free.
func (p *planner) assign(r Request) bool {
	in := p.pool(r.Type)
	if r.Count <= 0 || r.Count > min(in.free, in.spare()) || !in.head.passes(r) {
		return false
	}
	in.head.take(r)
	chosen := choose(p.free, r)
	a := Assignment{ID: r.ID}
	taken := map[string]bool{}
	for _, g := range chosen {
		a.UUIDs = append(a.UUIDs, g.UUID)
		taken[g.UUID] = true
	}
	var left []GPU
	for _, g := range p.free {
		if !taken[g.UUID] {
			left = append(left, g)
		}
	}
	p.free = left
	in.free -= r.Count
	p.starts(r)
	p.plan.Assign = append(p.plan.Assign, a)
	return true
}

// starts has the request count as a run from now on.
func (p *planner) starts(r Request) {
	p.share[share{r.Class, r.Account}] += r.Count
	p.runs = append(p.runs, Run{ID: r.ID, Type: r.Type, Count: r.Count, Class: r.Class, Account: r.Account, EndsIn: r.Needs, KeptFor: r.Needs})
}

// wait has a request wait: for what is about to be free, for what is preempted for it,
// or, if it is the first for its type that neither helps, with a reservation.
func (p *planner) wait(r Request) {
	in := p.pool(r.Type)
	w := Wait{ID: r.ID, StartsIn: Unknown}
	switch {
	case r.Count <= 0:
		w.Never = true
	case p.claim(r):
		w.StartsIn = 0
	case in.head == nil:
		if in.head = p.reserve(r); in.head == nil {
			w.Never = true
		} else {
			w.StartsIn = in.head.at
		}
	}
	p.plan.Waits = append(p.plan.Waits, w)
}

// claim keeps for the request what is about to be free, and has others preempted for
// what is missing. It reports false, and does nothing, when that does not suffice.
func (p *planner) claim(r Request) bool {
	in := p.pool(r.Type)
	if !in.head.passes(r) {
		return false
	}
	chosen, enough := victims(p.runs, r, r.Count-in.spare())
	if !enough {
		return false
	}
	in.head.take(r)
	for _, n := range chosen {
		v := &p.runs[n]
		v.Leaving = true
		in.leaving += v.Count
		p.share[share{v.Class, v.Account}] -= v.Count
		p.plan.Preempt = append(p.plan.Preempt, Preemption{Run: v.ID, For: r.ID})
	}
	in.claimed += r.Count
	p.starts(r)
	return true
}
