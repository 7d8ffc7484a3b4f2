package placement

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func h100s(n int) (out []GPU) {
	for i := range n {
		out = append(out, GPU{UUID: fmt.Sprint("gpu", i), Index: i, Type: "h100"})
	}
	return out
}

// want asks for H100s for an hour.
func want(id int64, count int, c Class) Request {
	return Request{ID: id, Type: "h100", Count: count, Class: c, Account: id, Needs: time.Hour}
}

// has is a run that goes on for half an hour.
func has(id int64, count int, c Class) Run {
	return Run{ID: id, Type: "h100", Count: count, Class: c, Account: id, Spell: time.Hour, EndsIn: 30 * time.Minute}
}

func TestRequestThatDoesNotFitHoldsBackOnlyItsOwnType(t *testing.T) {
	q := Question{
		Free:  []GPU{{UUID: "a", Index: 0, Type: "h100"}, {UUID: "b", Index: 1, Type: "a100"}},
		Runs:  []Run{has(9, 1, Standard)},
		Queue: []Request{want(1, 2, Standard), want(2, 1, Standard), {ID: 3, Type: "a100", Count: 1, Class: Standard}},
	}
	if got := Place(q).Assign; fmt.Sprint(got) != "[{3 [b]}]" {
		t.Fatalf("got %v", got)
	}
}

func TestLinkedGPUsArePreferredOverLowerIndexes(t *testing.T) {
	q := Question{Queue: []Request{want(1, 2, Standard)}, Free: []GPU{
		{UUID: "a", Index: 0, Type: "h100", Peers: []int{2}},
		{UUID: "b", Index: 1, Type: "h100"},
		{UUID: "c", Index: 2, Type: "h100", Peers: []int{0}},
	}}
	if got := Place(q).Assign; fmt.Sprint(got) != "[{1 [a c]}]" {
		t.Fatalf("got %v", got)
	}
}

func TestOrderOfTheQueue(t *testing.T) {
	waited := func(r Request, d time.Duration) Request { r.Waited = d; return r }
	of := func(r Request, account int64) Request { r.Account = account; return r }
	for name, c := range map[string]struct {
		runs  []Run
		queue []Request
		first int64
	}{
		"a higher class goes first, however long others wait": {nil, []Request{waited(want(1, 1, Spot), 100*time.Hour), want(2, 1, Standard), want(3, 1, Platform)}, 3},
		"who came first goes first":                           {nil, []Request{want(2, 1, Spot), want(1, 1, Spot)}, 1},
		"who has fewer GPUs goes first":                       {[]Run{has(1, 1, Standard)}, []Request{waited(of(want(5, 1, Standard), 1), time.Minute), of(want(6, 1, Standard), 2)}, 6},
		"unless the other has waited long":                    {[]Run{has(1, 1, Standard)}, []Request{waited(of(want(5, 1, Standard), 1), 11*time.Minute), of(want(6, 1, Standard), 2)}, 5},
		"GPUs of another class don't count":                   {[]Run{has(1, 1, Spot)}, []Request{waited(of(want(5, 1, Standard), 1), time.Minute), of(want(6, 1, Standard), 2)}, 5},
		"those that it gives up don't count":                  {[]Run{{ID: 1, Type: "h100", Count: 1, Class: Standard, Account: 1, Leaving: true}}, []Request{waited(of(want(5, 1, Standard), 1), time.Minute), of(want(6, 1, Standard), 2)}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			got := Place(Question{Free: h100s(1), Runs: c.runs, Queue: c.queue}).Assign
			if len(got) != 1 || got[0].ID != c.first {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestBackfillNeverDelaysTheReservation(t *testing.T) {
	short := func(r Request) Request { r.Needs = 20 * time.Minute; r.Waited = -time.Second; return r }
	late := func(r Request) Request { r.Waited = -time.Second; return r }
	for name, c := range map[string]struct {
		free  int
		runs  []Run
		queue []Request
		want  string
	}{
		"what ends in time gets what is free":         {1, []Run{has(9, 1, Standard)}, []Request{want(1, 2, Standard), short(want(2, 1, Standard))}, "[{2 [gpu0]}]"},
		"what would not end in time waits":            {1, []Run{has(9, 1, Standard)}, []Request{want(1, 2, Standard), late(want(2, 1, Standard))}, "[]"},
		"what the reservation leaves over is for all": {1, []Run{has(9, 2, Standard)}, []Request{want(1, 2, Standard), late(want(2, 1, Standard))}, "[{2 [gpu0]}]"},
		"and only once": {2, []Run{has(9, 1, Standard), has(8, 1, Standard)}, []Request{want(1, 3, Standard), late(want(2, 1, Standard)), late(want(3, 1, Standard))}, "[]"},
		"a request that can never be met holds up none": {1, nil, []Request{want(1, 2, Standard), late(want(2, 1, Standard))}, "[{2 [gpu0]}]"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Place(Question{Free: h100s(c.free), Runs: c.runs, Queue: c.queue}).Assign
			if fmt.Sprint(got) != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestPreemptionDoesTheLeastHarm(t *testing.T) {
	young := func(r Run) Run { r.Spell = time.Minute; return r }
	kept := func(r Run) Run { r.KeptFor = time.Minute; return r }
	leaving := func(r Run) Run { r.Leaving = true; return r }
	for name, c := range map[string]struct {
		free int
		runs []Run
		who  Request
		want string
	}{
		"none of its own class":                   {0, []Run{has(1, 1, Standard)}, want(9, 1, Standard), "[]"},
		"spot for standard":                       {0, []Run{has(1, 1, Standard), has(2, 1, Spot)}, want(9, 1, Standard), "[{2 9}]"},
		"spot rather than standard, also of more": {0, []Run{has(1, 2, Standard), has(2, 1, Spot), has(3, 1, Spot)}, want(9, 2, Platform), "[{2 9} {3 9}]"},
		"one rather than two":                     {0, []Run{has(1, 1, Spot), has(2, 1, Spot), has(3, 2, Spot)}, want(9, 2, Standard), "[{3 9}]"},
		"no more GPUs than needed":                {0, []Run{has(1, 4, Spot), has(2, 2, Spot)}, want(9, 2, Standard), "[{2 9}]"},
		"what is free is taken into account":      {1, []Run{has(1, 4, Spot), has(2, 1, Spot)}, want(9, 2, Standard), "[{2 9}]"},
		"the youngest":                            {0, []Run{has(1, 1, Spot), young(has(2, 1, Spot)), has(3, 1, Spot)}, want(9, 1, Standard), "[{2 9}]"},
		"nobody in vain":                          {0, []Run{has(1, 1, Spot), has(2, 3, Standard)}, want(9, 2, Standard), "[]"},
		"nobody who has only just begun":          {0, []Run{kept(has(1, 1, Spot))}, want(9, 1, Standard), "[]"},
		"nobody while GPUs are about to be free":  {0, []Run{has(1, 1, Spot), leaving(has(2, 1, Spot))}, want(9, 1, Standard), "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Place(Question{Free: h100s(c.free), Runs: c.runs, Queue: []Request{c.who}}).Preempt
			if fmt.Sprint(got) != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestTwoRequestsNeverCountOnTheSameGPUs(t *testing.T) {
	runs := []Run{has(1, 1, Spot), has(2, 1, Spot)}
	p := Place(Question{Runs: runs, Queue: []Request{want(8, 1, Standard), want(9, 1, Standard)}})
	if fmt.Sprint(p.Preempt) != "[{1 8} {2 9}]" {
		t.Errorf("preempted %v", p.Preempt)
	}
	runs[0].Leaving, runs[1].KeptFor = true, time.Minute
	late := want(9, 1, Standard)
	late.Waited = -time.Second
	if p = Place(Question{Runs: runs, Free: h100s(1), Queue: []Request{want(8, 2, Standard), late}}); len(p.Assign)+len(p.Preempt) != 0 {
		t.Errorf("what the first waits for went to the second: %+v", p)
	}
}

func TestAWaitSaysWhenItEnds(t *testing.T) {
	runs := []Run{has(1, 1, Standard), has(2, 1, Standard)}
	runs[1].EndsIn = 2 * time.Hour
	late := want(9, 1, Standard)
	late.Waited = -time.Second
	p := Place(Question{Runs: runs, Queue: []Request{want(8, 2, Standard), late, want(10, 3, Standard)}})
	want := fmt.Sprint([]Wait{{ID: 8, StartsIn: 2 * time.Hour}, {ID: 10, StartsIn: Unknown}, {ID: 9, StartsIn: Unknown}})
	if fmt.Sprint(p.Waits) != want {
		t.Errorf("got %v, want %v", p.Waits, want)
	}
	p = Place(Question{Runs: runs, Queue: []Request{want3(8)}})
	if want := fmt.Sprint([]Wait{{ID: 8, StartsIn: Unknown, Never: true}}); fmt.Sprint(p.Waits) != want {
		t.Errorf("got %v, want %v", p.Waits, want)
	}
}

func want3(id int64) Request { return want(id, 3, Standard) }

// A run that can be preempted soon ends soon, as far as a reservation is concerned:
// else a gang would wait for the end of one long spot run, while all others pass it.
func TestAReservationCountsOnWhoCanBePreempted(t *testing.T) {
	long := has(1, 1, Spot)
	long.EndsIn, long.KeptFor = 1000*time.Hour, 4*time.Minute
	late := want(9, 1, Standard)
	late.Waited = -time.Second
	p := Place(Question{Free: h100s(7), Runs: []Run{long}, Queue: []Request{want(8, 8, Standard), late}})
	if len(p.Assign) != 0 || p.Waits[0].StartsIn != 4*time.Minute {
		t.Errorf("%+v", p)
	}
}

// What is assigned in this very plan ends too: a reservation waits for it.
func TestAReservationCountsOnWhatIsAssignedAtTheSameTime(t *testing.T) {
	for name, q := range map[string]Question{
		"that is free":               {Free: h100s(2), Queue: []Request{want(1, 1, Standard), want(2, 2, Standard), want(3, 1, Standard)}},
		"for which others have gone": {Runs: []Run{has(8, 1, Spot), has(9, 1, Spot)}, Queue: []Request{want(1, 1, Platform), want(2, 2, Standard), want(3, 1, Standard)}},
	} {
		q.Queue[2].Needs, q.Queue[2].Waited = 100*time.Hour, -time.Second
		p := Place(q)
		for _, a := range p.Assign {
			if a.ID == 3 {
				t.Errorf("%s: the third passed the second: %+v", name, p)
			}
		}
		for _, x := range p.Preempt {
			if x.For == 3 {
				t.Errorf("%s: the third had others preempted past the second: %+v", name, p)
			}
		}
	}
}

func TestWhoMayGoBeforeAReservationMayPreemptToo(t *testing.T) {
	short := want(9, 1, Standard)
	short.Needs, short.Waited = 20*time.Minute, -time.Second
	runs := []Run{has(1, 3, Standard), has(2, 1, Spot)}
	p := Place(Question{Runs: runs, Queue: []Request{want(8, 4, Standard), short}})
	if fmt.Sprint(p.Preempt) != "[{2 9}]" {
		t.Errorf("%+v", p)
	}
	short.Needs = 2 * time.Hour // longer than until the others end
	if p = Place(Question{Runs: runs, Queue: []Request{want(8, 4, Standard), short}}); len(p.Preempt) != 0 {
		t.Errorf("%+v", p)
	}
}

// drawn is any state of a machine with two types of GPUs.
func drawn(t *rapid.T) (q Question, gpus map[string]int) {
	types := []string{"h100", "a100"}
	gpus = map[string]int{}
	for i := range rapid.IntRange(0, 8).Draw(t, "free") {
		g := GPU{UUID: fmt.Sprint("gpu", i), Index: i, Type: rapid.SampledFrom(types).Draw(t, "type")}
		q.Free = append(q.Free, g)
		gpus[g.Type]++
	}
	class := rapid.SampledFrom([]Class{Spot, Standard, Platform})
	length := rapid.Map(rapid.IntRange(0, 300), func(minutes int) time.Duration { return time.Duration(minutes) * time.Minute })
	for i := range rapid.IntRange(0, 6).Draw(t, "runs") {
		r := Run{
			ID: int64(100 + i), Type: rapid.SampledFrom(types).Draw(t, "type"), Count: rapid.IntRange(1, 4).Draw(t, "count"), Class: class.Draw(t, "class"),
			Account: rapid.Int64Range(1, 3).Draw(t, "account"), Spell: length.Draw(t, "spell"), EndsIn: length.Draw(t, "ends"),
			KeptFor: max(0, length.Draw(t, "kept")-2*time.Hour), Leaving: rapid.Bool().Draw(t, "leaving"),
		}
		q.Runs = append(q.Runs, r)
		gpus[r.Type] += r.Count
	}
	for i := range rapid.IntRange(0, 8).Draw(t, "requests") {
		q.Queue = append(q.Queue, Request{
			ID: int64(i), Type: rapid.SampledFrom(types).Draw(t, "want"), Count: rapid.IntRange(-1, 5).Draw(t, "count"), Class: class.Draw(t, "class"),
			Account: rapid.Int64Range(1, 3).Draw(t, "account"), Waited: length.Draw(t, "waited"), Needs: length.Draw(t, "needs"),
		})
	}
	return q, gpus
}

// Whatever the state: nobody shares, everybody gets what they asked for or nothing, no
// more are preempted than make room, only of a lower class, and none who may not be.
func TestPlanKeepsWhatIsAlwaysTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, _ := drawn(t)
		before := fmt.Sprint(q)
		p := Place(q)
		if again := Place(q); fmt.Sprint(again) != fmt.Sprint(p) {
			t.Fatalf("the same question has two answers:\n%v\n%v", p, again)
		}
		if fmt.Sprint(q) != before {
			t.Fatal("the question was changed")
		}
		asked := map[int64]Request{}
		for _, r := range q.Queue {
			asked[r.ID] = r
		}
		used := map[string]bool{}
		for _, a := range p.Assign {
			for _, u := range a.UUIDs {
				n := slices.IndexFunc(q.Free, func(g GPU) bool { return g.UUID == u })
				if n < 0 || used[u] || q.Free[n].Type != asked[a.ID].Type {
					t.Fatalf("%s is not there for request %d", u, a.ID)
				}
				used[u] = true
			}
			if len(a.UUIDs) != asked[a.ID].Count {
				t.Fatalf("request %d got %v", a.ID, a.UUIDs)
			}
		}
		if len(p.Assign)+len(p.Waits) != len(q.Queue) {
			t.Fatalf("%d assigned and %d waiting of %d", len(p.Assign), len(p.Waits), len(q.Queue))
		}
		checkPreemptions(t, q, p, asked)
	})
}

func checkPreemptions(t *rapid.T, q Question, p Plan, asked map[int64]Request) {
	taken := map[int64]bool{}
	freed := map[int64][]int{} // by request
	for _, x := range p.Preempt {
		n := slices.IndexFunc(q.Runs, func(r Run) bool { return r.ID == x.Run })
		run, r := q.Runs[n], asked[x.For]
		if taken[x.Run] || run.KeptFor > 0 || run.Leaving || run.Class >= r.Class || run.Type != r.Type {
			t.Fatalf("%+v was preempted for %+v", run, r)
		}
		taken[x.Run] = true
		freed[x.For] = append(freed[x.For], run.Count)
	}
	for id, counts := range freed {
		total := 0
		for _, c := range counts {
			total += c
		}
		if total-slices.Min(counts) >= asked[id].Count {
			t.Fatalf("request %d for %d preempted runs of %v: one too many", id, asked[id].Count, counts)
		}
	}
}

// The first of each class order that waits for a type does so for a reason: nothing
// that may be preempted would make room for it.
func TestNobodyWaitsBehindALowerClassThatCouldMakeRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, _ := drawn(t)
		p := Place(q)
		seen := map[string]bool{}
		for _, w := range p.Waits {
			r := q.Queue[w.ID]
			if r.Count <= 0 || seen[r.Type] {
				continue
			}
			seen[r.Type] = true
			room := 0
			for _, g := range q.Free {
				if g.Type == r.Type && !slices.ContainsFunc(p.Assign, func(a Assignment) bool { return slices.Contains(a.UUIDs, g.UUID) && q.Queue[a.ID].Class >= r.Class }) {
					room++
				}
			}
			preempted := false
			for _, run := range q.Runs {
				if run.Type == r.Type && (run.Leaving || run.Class < r.Class && run.KeptFor <= 0) {
					room += run.Count
				}
				preempted = preempted || slices.Contains(p.Preempt, Preemption{run.ID, r.ID})
			}
			if room >= r.Count && !preempted && w.StartsIn != 0 {
				t.Fatalf("request %+v waits although %d GPUs can be had: %+v", r, room, p)
			}
		}
	})
}

// On an idle machine every request that fits alone is met when its turn has come.
func TestAnIdleMachineTakesTheFirstThatFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, _ := drawn(t)
		q.Runs = nil
		p := Place(q)
		for _, w := range p.Waits {
			r := q.Queue[w.ID]
			free := 0
			for _, g := range q.Free {
				if g.Type == r.Type && !slices.ContainsFunc(p.Assign, func(a Assignment) bool { return slices.Contains(a.UUIDs, g.UUID) }) {
					free++
				}
			}
			if r.Count > 0 && r.Count <= free {
				t.Fatalf("%+v waits although %d are free and nobody runs: %+v", r, free, p)
			}
		}
	})
}
