package scheduler

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

func (b *box) launchAs(name string, c Class, gpus int, hours float64) Instance {
	b.t.Helper()
	r := request(name, hours)
	r.Class, r.GPUCount = c, gpus
	i, err := b.Launch(background, r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.settle()
	return b.read(i.ID)
}

func states(i Instance) (out []State) {
	for _, c := range i.History {
		out = append(out, c.State)
	}
	return out
}

func TestSpotGivesItsGPUsToStandardAndGoesOnWhenTheyAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		spot := b.launchAs("spot", Spot, 1, 2)
		time.Sleep(30 * time.Minute)
		first := b.launchAs("first", Standard, 1, 1)
		b.want(first.ID, Running)
		spot = b.want(spot.ID, Preempted)
		if spot.Ran.Round(time.Second) != 30*time.Minute || len(spot.GPUs) != 0 || !spot.RunningSince.IsZero() {
			t.Fatalf("preempted: ran %s, has %v, clock %v", spot.Ran, spot.GPUs, spot.RunningSince)
		}
		if words := strings.Join(spot.Notices(), " "); !strings.Contains(words, "Preempted on") || !strings.Contains(words, "goes on by itself") {
			t.Fatalf("nobody is told: %q", words)
		}
		if why, _ := b.Waiting(spot); why != "waits for 1 × h100, of which 0 free now; first in the queue, in about 1 h if nobody extends or goes first" {
			t.Fatalf("it waits because %q", why)
		}
		if open := b.holdIsOpen(spot); !open {
			t.Fatal("its hold was settled")
		}
		time.Sleep(time.Hour)
		b.settle()
		if spot = b.want(spot.ID, Running); time.Until(spot.Deadline()).Round(time.Second) != 90*time.Minute {
			t.Fatalf("it ends in %s", time.Until(spot.Deadline()))
		}
		if words := strings.Join(spot.Notices(), " "); !strings.Contains(words, "It was preempted on") || !strings.Contains(words, "goes on since") {
			t.Fatalf("nobody is told that it goes on: %q", words)
		}
		want := []State{Pending, Pulling, Starting, Running, Preempted, Starting, Running}
		if got := states(spot); !slices.Equal(got, want) {
			t.Fatalf("history %v", got)
		}
		time.Sleep(90 * time.Minute)
		b.settle()
		if spot = b.want(spot.ID, Terminated); spot.Charged != usd("3.20") || spot.Refunded != 0 {
			t.Fatalf("2 h ran, and %s were charged, %s refunded", spot.Charged, spot.Refunded)
		}
	})
}

func TestPreemptedInstanceIsTerminatedAndPaysForWhatRan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		spot := b.launchAs("spot", Spot, 1, 2)
		time.Sleep(30 * time.Minute)
		b.launchAs("standard", Standard, 1, 5)
		b.want(spot.ID, Preempted)
		time.Sleep(time.Hour)
		if _, err := b.Terminate(background, alice, spot.ID); err != nil {
			t.Fatal(err)
		}
		b.settle()
		if spot = b.want(spot.ID, Terminated); spot.Charged < usd("0.80") || spot.Charged > usd("0.8001") || spot.Charged+spot.Refunded != usd("3.20") {
			t.Fatalf("charged %s, refunded %s", spot.Charged, spot.Refunded)
		}
		if seen, _ := b.machine.Observe(background, spot.Workload()); seen.Presence != agent.Absent {
			t.Fatalf("on the machine: %+v", seen)
		}
	})
}

// GPUs are nobody's before the container has stopped, however long that takes, and
// whatever happens to EcoLink meanwhile.
func TestGPUsAreHandedOnOnlyWhenTheContainerHasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		spot := b.launchAs("spot", Spot, 1, 2)
		time.Sleep(10 * time.Minute)
		b.machine.set(func() { b.machine.stopErr = errTest })
		next := b.launchAs("next", Standard, 1, 1)
		time.Sleep(time.Minute)
		b.settle()
		if i := b.want(spot.ID, Preempted); len(i.GPUs) != 1 || i.Ran.Round(time.Second) != 10*time.Minute {
			t.Fatalf("it has %v and ran %s", i.GPUs, i.Ran)
		}
		b.want(next.ID, Pending)
		if why, _ := b.Waiting(next); why != "waits for 1 × h100, of which 0 free now; the next are about to be free" {
			t.Fatalf("it waits because %q", why)
		}
		b.restart()
		b.want(next.ID, Pending)
		b.machine.set(func() { b.machine.stopErr = nil })
		time.Sleep(2 * retryMax)
		b.settle()
		b.want(next.ID, Running)
	})
}

func TestNobodyIsPreemptedOverAndOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		spot := b.launchAs("spot", Spot, 1, 10)
		for round, keeps := range []time.Duration{DefaultPreemptAfter, 2 * DefaultPreemptAfter, 4 * DefaultPreemptAfter} {
			began := time.Now()
			b.want(spot.ID, Running)
			next := b.launchAs("next", Standard, 1, 1)
			b.want(next.ID, Pending)
			for b.read(spot.ID).State == Running {
				time.Sleep(time.Second)
				b.settle()
			}
			if ran := time.Since(began); ran < keeps || ran > keeps+2*placingEvery {
				t.Fatalf("round %d: it ran for %s, and not %s", round, ran, keeps)
			}
			b.settle()
			b.want(next.ID, Running)
			b.Terminate(background, alice, next.ID)
			b.settle()
		}
	})
}

func TestAnInstanceThatIsOnlyBeingStartedIsPreemptedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		b.machine.set(func() { b.machine.pullTime = 10 * time.Minute })
		spot := b.launchAs("spot", Spot, 1, 1)
		b.want(spot.ID, Pulling)
		b.machine.set(func() { b.machine.pullTime = 0 })
		next := b.launchAs("next", Standard, 1, 1)
		b.want(next.ID, Running)
		if i := b.want(spot.ID, Preempted); i.Ran != 0 {
			t.Fatalf("it ran %s", i.Ran)
		}
		b.Terminate(background, alice, next.ID)
		b.settle()
		b.want(spot.ID, Running)
	})
}

func TestAPreemptedInstanceSurvivesAReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		spot := b.launchAs("spot", Spot, 1, 2)
		time.Sleep(10 * time.Minute)
		next := b.launchAs("next", Standard, 1, 1)
		b.want(next.ID, Running)
		b.stop()
		b.machine.reboot()
		b.start()
		b.settle()
		b.want(next.ID, Running)
		b.want(spot.ID, Preempted)
		b.Terminate(background, alice, next.ID)
		b.settle()
		b.want(spot.ID, Running)
	})
}

// What nobody has looked at for long may have ended long ago: it is looked at before
// its time is reckoned.
func TestTimeThatNobodyRanIsNotBilledAlthoughAHigherClassWaits(t *testing.T) {
	for name, away := range map[string]func(b *box, spot Instance){
		"a power cut": func(b *box, _ Instance) {
			b.machine.reboot()
			time.Sleep(3 * time.Hour)
		},
		"its container ends while EcoLink is away": func(b *box, spot Instance) {
			b.machine.exit(spot.Workload())
			time.Sleep(3 * time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t, 1)
				defer b.close()
				spot := b.launchAs("spot", Spot, 1, 10)
				time.Sleep(2 * time.Minute)
				next := b.launchAs("next", Standard, 1, 1)
				b.want(next.ID, Pending)
				b.stop()
				away(b, spot)
				b.start()
				time.Sleep(2 * placingEvery)
				b.settle()
				if i := b.read(spot.ID); i.RanBy(time.Now()) > 4*time.Minute {
					t.Errorf("it is %s and ran %s", i.State, i.RanBy(time.Now()))
				}
				if ended := b.read(spot.ID).TerminationReason; name != "a power cut" && ended != ReasonExited {
					t.Errorf("it ended by itself, and that is called %q", ended)
				}
			})
		})
	}
}

func TestAClockThatIsPutForwardIsNotBilledAlthoughAHigherClassWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		spot := b.launchAs("spot", Spot, 1, 10)
		time.Sleep(time.Minute)
		b.launchAs("next", Standard, 1, 1)
		b.stop()
		const jump = 4 * time.Hour
		time.Sleep(jump)
		b.machine.set(func() { b.machine.shift = jump }) // it began later, by the new clock
		b.start()
		time.Sleep(10 * time.Minute)
		b.settle()
		if i := b.read(spot.ID); i.RanBy(time.Now()) > 15*time.Minute {
			t.Errorf("it is %s and ran %s", i.State, i.RanBy(time.Now()))
		}
	})
}

func TestAnInstanceWhoseTimeIsUpIsNotPreemptedButOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		spot := b.launchAs("spot", Spot, 1, 1)
		time.Sleep(time.Hour - 20*time.Second)
		next := b.launchAs("next", Standard, 1, 1)
		b.want(spot.ID, Running)
		time.Sleep(time.Minute)
		b.settle()
		if i := b.want(spot.ID, Terminated); i.TerminationReason != ReasonExpired {
			t.Errorf("it ended because of %s", i.TerminationReason)
		}
		b.want(next.ID, Running)
	})
}

// Nobody counts for ever on GPUs of a container that does not stop.
func TestAContainerThatDoesNotStopHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 3)
		defer b.close()
		stuck := b.launchAs("stuck", Spot, 1, 5)
		other := b.launchAs("other", Spot, 1, 5)
		time.Sleep(10 * time.Minute)
		b.machine.set(func() { b.machine.stopErr = errTest })
		gang := b.launchAs("gang", Standard, 3, 1)
		time.Sleep(stuckTime + time.Minute)
		b.settle()
		b.want(gang.ID, Pending)
		if why, _ := b.Waiting(gang); !strings.Contains(why, "more than this box can give now") {
			t.Errorf("it waits because %q", why)
		}
		if i := b.want(stuck.ID, Preempted); !strings.Contains(i.Problem, errTest.Error()) {
			t.Errorf("nobody is told why: %q", i.Problem)
		}
		small := b.launchAs("small", Standard, 1, 1)
		b.want(small.ID, Running)
		b.machine.set(func() { b.machine.stopErr = nil })
		time.Sleep(2 * retryMax)
		b.settle()
		if i := b.read(stuck.ID); i.Problem != "" {
			t.Errorf("it has stopped, and its problem is %q", i.Problem)
		}
		b.read(other.ID)
	})
}

func TestAQuoteSaysHowTheLaunchWouldFare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		ask := func(c Class) Quote {
			r := request("asked", 1)
			r.Class = c
			q, err := b.Quote(background, r)
			if err != nil {
				t.Fatal(err)
			}
			return q
		}
		if q := ask(Spot); q.Waits || q.Preempts || q.FreeGPUs != 1 {
			t.Errorf("on an idle box: %+v", q)
		}
		b.launchAs("spot", Spot, 1, 5)
		time.Sleep(10 * time.Minute)
		if q := ask(Standard); q.Waits || !q.Preempts || q.FreeGPUs != 0 || q.Waiting != 0 {
			t.Errorf("standard beside spot: %+v", q)
		}
		b.launchAs("waits", Spot, 1, 1)
		if q := ask(Spot); !q.Waits || q.Preempts || q.Waiting != 1 {
			t.Errorf("spot beside spot: %+v", q)
		}
	})
}

func TestPriorityClassIsOneThatTheUserMayChoose(t *testing.T) {
	for name, want := range map[string]Class{"": Standard, "spot": Spot, "standard": Standard, "platform": Platform} {
		if got, err := ParseClass(name); err != nil || got != want {
			t.Errorf("%q: %s, %v", name, got, err)
		}
	}
	wantProblem := func(t *testing.T, err error) {
		t.Helper()
		var p *Problem
		if !errors.As(err, &p) || p.Kind != Unprocessable || p.Field != "priority_class" {
			t.Errorf("%v", err)
		}
	}
	_, err := ParseClass("Spot")
	wantProblem(t, err)
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		r := request("mine", 1)
		r.Class = Platform
		r.User = b.user("user@example.org", false)
		_, err := b.Launch(background, r)
		wantProblem(t, err)
		_, err = b.Quote(background, r)
		wantProblem(t, err)
		b.wantWallet(alice, "100", "0")
		r.User = b.user("operator@example.org", true)
		if _, err := b.Launch(background, r); err != nil {
			t.Fatal(err)
		}
		b.settle()
	})
}

func (b *box) user(email string, operator bool) (id identity.UserID) {
	b.t.Helper()
	hash, err := identity.NewHasher(1).Hash(background, "correct horse battery staple")
	if err != nil {
		b.t.Fatal(err)
	}
	b.update(func(tx *store.Tx) error {
		u, err := identity.CreateUser(tx, identity.NewUser{Email: email, PasswordHash: hash, Operator: operator}, time.Now())
		id = u.ID
		return err
	})
	return id
}
