package scheduler

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ecolink/agent"
)

// Any sequence of launches, terminations, extensions, exits, faults, restarts
// and reboots keeps what must always be true: no GPU has two owners, a hold is
// open exactly while its instance can be billed, nobody pays for more than the
// time that ran, and in the end nothing is left on the machine and the books agree.
func TestNoSequenceOfEventsBreaksTheInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t, 3)
			defer b.close()
			for n := range rapid.IntRange(1, 15).Draw(rt, "steps") {
				b.randomStep(rt, n)
				b.settle()
				b.checkInvariants()
			}
			b.machine.set(func() { b.machine.runErr, b.machine.stopErr, b.machine.pullErr = nil, nil, nil })
			list, _ := b.List(alice, 0, 100)
			for _, i := range list {
				b.Terminate(background, alice, i.ID)
			}
			time.Sleep(2 * retryMax)
			b.settle()
			b.checkInvariants()
			if left, _ := b.machine.List(background); len(left) != 0 {
				t.Fatalf("left on the machine: %v", left)
			}
			if w := b.wallet(alice); w.Held != 0 {
				t.Fatalf("%s is still held", w.Held)
			}
		})
	})
}

func (b *box) randomStep(rt *rapid.T, n int) {
	id := InstanceID(rapid.Int64Range(1, 6).Draw(rt, "id"))
	switch rapid.IntRange(0, 9).Draw(rt, "op") {
	case 0, 1, 2:
		r := request(fmt.Sprint("i", n), 1)
		r.GPUCount = rapid.IntRange(1, 3).Draw(rt, "gpus")
		r.Class = rapid.SampledFrom([]Class{"", Spot, Standard}).Draw(rt, "class")
		b.Launch(background, r)
	case 3:
		b.Terminate(background, alice, id)
	case 4:
		b.extend(id, 1)
	case 5:
		b.machine.exit(Instance{ID: id}.Workload())
	case 6:
		b.stop()
		time.Sleep(time.Duration(rapid.IntRange(0, 90).Draw(rt, "away")) * time.Minute)
		b.start()
	case 7:
		b.stop()
		b.machine.reboot()
		time.Sleep(time.Duration(rapid.IntRange(0, 90).Draw(rt, "dark")) * time.Minute)
		b.start()
	case 8:
		fault := rapid.SampledFrom([]error{nil, errTest, refusal("never")}).Draw(rt, "fault")
		stop := rapid.SampledFrom([]error{nil, nil, errTest}).Draw(rt, "stop")
		b.machine.set(func() { b.machine.runErr, b.machine.stopErr = fault, stop })
	case 9:
		time.Sleep(time.Duration(rapid.IntRange(1, 90).Draw(rt, "minutes")) * time.Minute)
	}
}

var errTest = fmt.Errorf("breaks for now")

func (b *box) checkInvariants() {
	b.t.Helper()
	owner := map[string]InstanceID{}
	list, err := b.List(alice, 0, 100)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, i := range list {
		for _, u := range i.GPUs {
			if other, taken := owner[u]; taken {
				b.t.Fatalf("%s belongs to %d and %d", u, other, i.ID)
			}
			owner[u] = i.ID
		}
		if i.State == Preempted && i.Deadline() != (time.Time{}) {
			b.t.Fatalf("instance %d is preempted and its clock runs", i.ID)
		}
		if i.State == Running && len(i.GPUs) != i.GPUCount {
			b.t.Fatalf("instance %d runs on %v, not on %d", i.ID, i.GPUs, i.GPUCount)
		}
		if i.Ran > i.Paid+billedLag { // its end may be seen late
			b.t.Fatalf("instance %d ran %s of %s", i.ID, i.Ran, i.Paid)
		}
		real := b.machine.realTime(i.Workload())
		if seen, _ := b.machine.Observe(background, i.Workload()); seen.Presence == agent.Running { // or is being stopped
			real += time.Since(seen.StartedAt)
		}
		if i.RunningSince.IsZero() && i.Ran > real+billedLag {
			b.t.Fatalf("instance %d is %s, its containers ran %s, and it is billed for %s", i.ID, i.State, real, i.Ran)
		}
		settled := i.State == Terminating || i.State.Final()
		if open := b.holdIsOpen(i); open == settled {
			b.t.Fatalf("instance %d is %s and its hold is open: %v", i.ID, i.State, open)
		}
		if seen, _ := b.machine.Observe(background, i.Workload()); i.State == Terminated && seen.Presence != agent.Absent {
			b.t.Fatalf("instance %d is over and on the machine: %+v", i.ID, seen)
		}
	}
}
