package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/store"
)

var background = context.Background()

func TestTwoHoursAreHeldAndTheUnusedPartComesBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 2)
		b.want(i.ID, Running)
		b.wantWallet(alice, "96.80", "3.20")
		time.Sleep(time.Until(i.RunningSince.Add(30 * time.Minute)))
		i, err := b.Terminate(background, alice, i.ID)
		if err != nil || i.State != Terminating {
			t.Fatalf("%s, %v", i.State, err)
		}
		b.wantWallet(alice, "99.20", "0") // $2.40 of $3.20 is back before the container is gone
		b.settle()
		i = b.want(i.ID, Terminated)
		if i.TerminationReason != ReasonUser || len(i.GPUs) != 0 || i.Ran != 30*time.Minute {
			t.Fatalf("%+v", i)
		}
	})
}

func TestExtendHoldsMoreAndMovesTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 2)
		for range 2 { // the second call with the key is the first one's echo
			x, err := b.Extend(background, ExtendRequest{Account: alice, Instance: i.ID, Hours: 3, RequestID: "req", Key: "key-1"})
			if err != nil || x.Added != usd("4.80") || x.Wallet.Available != usd("92") || x.Instance.Deadline() != i.Deadline().Add(3*time.Hour) {
				t.Fatalf("%+v, %v", x, err)
			}
		}
		b.wantWallet(alice, "92", "8")
		time.Sleep(4 * time.Hour)
		b.want(i.ID, Running)
		time.Sleep(time.Hour)
		b.settle()
		if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonExpired {
			t.Fatalf("%+v", i)
		}
		b.wantWallet(alice, "92", "0")
	})
}

func TestExtendFailsWithoutMoneyAndKeepsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 2)
		_, err := b.extend(i.ID, 1000)
		var short *ledger.InsufficientError
		if !errors.As(err, &short) || short.Needed != usd("1600") {
			t.Fatal(err)
		}
		if again := b.read(i.ID); again.Deadline() != i.Deadline() {
			t.Fatalf("deadline moved to %s", again.Deadline())
		}
		b.wantWallet(alice, "96.80", "3.20")
	})
}

func TestInstanceStopsByItselfWhenItsTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 1.5)
		time.Sleep(90*time.Minute - time.Second)
		b.want(i.ID, Running)
		time.Sleep(time.Second)
		b.settle()
		if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonExpired || i.Ran != 90*time.Minute {
			t.Fatalf("%+v", i)
		}
		b.wantWallet(alice, "97.60", "0")
	})
}

func TestLaunchThatCannotBePaidLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		r := request("trainer", 2)
		r.Account = bob
		_, err := b.Launch(background, r)
		var short *ledger.InsufficientError
		if !errors.As(err, &short) {
			t.Fatal(err)
		}
		if list, err := b.List(bob, 0, 10); err != nil || len(list) != 0 {
			t.Fatalf("%v, %v", list, err)
		}
		b.wantWallet(bob, "0", "0")
		if i := b.launch("other", 1); i.ID != 1 {
			t.Fatalf("the refused launch used up number %d", i.ID-1)
		}
	})
}

func TestThirdInstanceWaitsWithItsReasonAndStartsWhenOneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 2)
		defer b.close()
		first, second := b.launch("a", 1), b.launch("b", 1)
		if b.want(first.ID, Running).GPUs[0] == b.want(second.ID, Running).GPUs[0] {
			t.Fatal("they share a GPU")
		}
		third := b.launch("c", 1)
		b.want(third.ID, Pending)
		why, err := b.Waiting(third)
		if err != nil || why != "waits for 1 × h100, of which 0 free now; first in the queue, in about 1 h if nobody extends or goes first" {
			t.Fatalf("%q, %v", why, err)
		}
		time.Sleep(30 * time.Minute)
		b.Terminate(background, alice, first.ID)
		b.settle()
		if third = b.want(third.ID, Running); time.Until(third.Deadline()) < 59*time.Minute {
			t.Fatalf("waiting was billed: it ends at %s", third.Deadline())
		}
	})
}

// A GPU is not given away while the container that had it may still live.
func TestGPUStaysTakenUntilTheContainerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		first := b.launch("a", 1)
		b.machine.set(func() { b.machine.stopErr = errors.New("containerd is away") })
		b.Terminate(background, alice, first.ID)
		second := b.launch("b", 1)
		time.Sleep(5 * time.Minute)
		b.want(first.ID, Terminating)
		b.want(second.ID, Pending)
		b.machine.set(func() { b.machine.stopErr = nil })
		time.Sleep(time.Minute)
		b.want(first.ID, Terminated)
		b.want(second.ID, Running)
	})
}

func TestRestartAdoptsWhatRunsAndBillsTheRealTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 2)
		b.stop()
		time.Sleep(time.Hour) // EcoLink is away, the container is not
		b.start()
		b.settle()
		again := b.want(i.ID, Running)
		if !again.RunningSince.Equal(i.RunningSince) || again.Deadline() != i.Deadline() {
			t.Fatalf("%s → %s", i.RunningSince, again.RunningSince)
		}
		b.Terminate(background, alice, i.ID)
		b.settle()
		if ran := b.want(i.ID, Terminated).Ran; ran < time.Hour || ran > time.Hour+time.Second {
			t.Fatalf("billed %s", ran)
		}
	})
}

func TestContainerThatEndedWhileEcoLinkWasAwayIsBilledUntilItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 2)
		b.stop()
		time.Sleep(30 * time.Minute)
		b.machine.exit(i.Workload())
		time.Sleep(time.Hour)
		b.start()
		b.settle()
		i = b.want(i.ID, Terminated)
		if i.TerminationReason != ReasonExited || i.Ran.Round(time.Second) != 30*time.Minute {
			t.Fatalf("%s after %s", i.TerminationReason, i.Ran)
		}
	})
}

func TestRebootStartsAgainWhatHasTimeLeftAndBillsOnlyWhatWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 2)
		time.Sleep(time.Hour)
		b.stop()
		b.machine.reboot()
		time.Sleep(5 * time.Hour)
		b.start()
		b.settle()
		i = b.want(i.ID, Running)
		if i.Ran > time.Hour || i.Ran < time.Hour-heartbeat-time.Second {
			t.Fatalf("billed %s of the first spell", i.Ran)
		}
		time.Sleep(time.Until(i.Deadline()))
		b.settle()
		if i = b.want(i.ID, Terminated); i.Ran != 2*time.Hour {
			t.Fatalf("ran %s in all", i.Ran)
		}
	})
}

func TestExpiryIsDecidedByTheClockEvenWhenContainerdIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 1)
		b.machine.set(func() { b.machine.seeErr = errors.New("containerd is away") })
		time.Sleep(time.Hour + retryMax)
		b.settle()
		if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonExpired {
			t.Fatalf("%+v", i)
		}
	})
}

func TestTerminateInterruptsAPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		b.machine.set(func() { b.machine.pullTime = 10 * time.Minute })
		i := b.launch("trainer", 1)
		b.want(i.ID, Pulling)
		if p, ok := b.Progress(i.ID); !ok || p.Layers != 1 {
			t.Fatalf("%+v, %v", p, ok)
		}
		b.Terminate(background, alice, i.ID)
		b.settle()
		b.want(i.ID, Terminated)
		b.wantWallet(alice, "100", "0")
	})
}

func TestPullThatCanNeverWorkFailsAtOnceWithAFullRefund(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		b.machine.set(func() { b.machine.pullErr = fmt.Errorf("pull: %w", refusal("no such image")) })
		i := b.launch("trainer", 1)
		i = b.want(i.ID, Failed)
		if i.TerminationReason != ReasonImage || !strings.Contains(i.Problem, "no such image") || len(i.GPUs) != 0 {
			t.Fatalf("%+v", i)
		}
		b.wantWallet(alice, "100", "0")
	})
}

func TestWatchdogFailsWhatNeverStartsAndRefundsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		b.machine.set(func() { b.machine.runErr = errors.New("no space left on device") })
		i := b.launch("trainer", 1)
		time.Sleep(14 * time.Minute)
		if i = b.want(i.ID, Starting); i.Problem != "no space left on device" {
			t.Fatalf("the user is not told: %q", i.Problem)
		}
		time.Sleep(2 * time.Minute)
		if i = b.want(i.ID, Failed); i.TerminationReason != ReasonWatchdog {
			t.Fatalf("%+v", i)
		}
		b.wantWallet(alice, "100", "0")
	})
}

func TestWatchdogHealsWhatRunsAfterAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		b.machine.set(func() { b.machine.runErr = errors.New("lost the answer") })
		i := b.launch("trainer", 1)
		b.machine.set(func() {
			b.machine.found[i.Workload()] = &agent.Observation{ID: i.Workload(), Presence: agent.Running, StartedAt: time.Now(), BootID: "boot-1"}
		})
		time.Sleep(16 * time.Minute)
		b.want(i.ID, Running)
	})
}

func TestWorkloadWithoutARecordIsRemovedAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		b.machine.set(func() {
			b.machine.found["instance-99"] = &agent.Observation{ID: "instance-99", Presence: agent.Running}
		})
		b.restart()
		if left, _ := b.machine.List(background); len(left) != 0 {
			t.Fatalf("left: %v", left)
		}
	})
}

func TestBadRequestsNameTheirFieldAndCreateNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 2)
		defer b.close()
		b.launch("taken", 1)
		rows := []struct {
			field  string
			kind   Kind
			change func(*LaunchRequest)
		}{
			{"name", Unprocessable, func(r *LaunchRequest) { r.Name = "Not A Name" }},
			{"name", Unprocessable, func(r *LaunchRequest) { r.Name = "" }},
			{"name", Conflict, func(r *LaunchRequest) { r.Name = "taken" }},
			{"gpu_type", Unprocessable, func(r *LaunchRequest) { r.GPUType = "b200" }},
			{"gpu_count", Unprocessable, func(r *LaunchRequest) { r.GPUCount = 0 }},
			{"gpu_count", Unprocessable, func(r *LaunchRequest) { r.GPUCount = -1 }},
			{"gpu_count", Unprocessable, func(r *LaunchRequest) { r.GPUCount = 3 }},
			{"estimated_duration_hours", Unprocessable, func(r *LaunchRequest) { r.Hours = 0 }},
			{"estimated_duration_hours", Unprocessable, func(r *LaunchRequest) { r.Hours = math.NaN() }},
			{"estimated_duration_hours", Unprocessable, func(r *LaunchRequest) { r.Hours = math.Inf(1) }},
			{"estimated_duration_hours", Unprocessable, func(r *LaunchRequest) { r.Hours = 0.99 }},
			{"image", Unprocessable, func(r *LaunchRequest) { r.Image = "" }},
			{"env", Unprocessable, func(r *LaunchRequest) { r.Env = map[string]string{"A=B": ""} }},
			{"command", Unprocessable, func(r *LaunchRequest) { r.Command = []string{"a\x00"} }},
		}
		before := b.wallet(alice)
		for _, row := range rows {
			r := request("fine", 1)
			row.change(&r)
			_, err := b.Launch(background, r)
			wantProblem(t, err, row.kind, row.field)
			q, err := b.Quote(background, r)
			if row.field == "image" { // what it would cost is known all the same
				if err != nil || q.Hold == 0 {
					t.Errorf("%+v, %v", q, err)
				}
				err = q.Image
			}
			wantProblem(t, err, row.kind, row.field)
		}
		if list, _ := b.List(alice, 0, 10); len(list) != 1 || b.wallet(alice) != before {
			t.Fatalf("%v, %+v", list, b.wallet(alice))
		}
	})
}

func TestAnotherAccountsInstanceDoesNotExist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 1)
		_, err := b.Get(bob, i.ID)
		wantProblem(t, err, NotFound, "")
		_, err = b.Terminate(background, bob, i.ID)
		wantProblem(t, err, NotFound, "")
		_, err = b.Extend(background, ExtendRequest{Account: bob, Instance: i.ID, Hours: 1, RequestID: "", Key: ""})
		wantProblem(t, err, NotFound, "")
		b.want(i.ID, Running)
	})
}

func TestSameIdempotencyKeyLaunchesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 2)
		defer b.close()
		r := request("trainer", 1)
		r.Key = "k1"
		first, err := b.Launch(background, r)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := b.Launch(background, r); err != nil || again.ID != first.ID {
			t.Fatalf("%+v, %v", again, err)
		}
		r.Name = "other"
		if _, err := b.Launch(background, r); !errors.Is(err, ledger.ErrKeyReused) {
			t.Fatal(err)
		}
		b.wantWallet(alice, "98.40", "1.60")
	})
}

// Every pair of state and event: what the table does not list is refused and
// changes nothing.
func TestEveryStateTakesOnlyItsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 0)
		defer b.close()
		events := []Event{Assigned, Pulled, Started, Stop, Exited, Rebooted, Fail, Cleaned, Preempt, Parked}
		for st := range transitions {
			for _, e := range events {
				b.update(func(tx *store.Tx) error {
					n, err := tx.NextID("test")
					if err != nil {
						return err
					}
					hold, err := ledger.PlaceHold(tx, ledger.Entry{At: time.Now(), Account: alice, Amount: 1, Resource: fmt.Sprint(n)}, ledger.HoldTerms{})
					if err != nil {
						return err
					}
					i := Instance{ID: InstanceID(n), Hold: hold.ID, State: st, History: []Change{{State: st}}}
					after, err := apply(tx, i, occurrence{event: e, now: time.Now()})
					want, allowed := transitions[st][e]
					var stale errStale
					if allowed && (err != nil || after.State != want.to) || !allowed && !errors.As(err, &stale) {
						t.Errorf("%s on %s: %s, %v", e, st, after.State, err)
					}
					i.State, i.GPUs = Terminated, nil
					if err := put(tx, i); err != nil {
						return err
					}
					_, err = ledger.VoidHold(tx, hold.ID, ledger.Entry{At: time.Now()})
					if errors.Is(err, ledger.ErrHoldSettled) == (want.effects.Has(Settle)) {
						return nil
					}
					return fmt.Errorf("%s on %s left the hold: %w", e, st, err)
				})
			}
		}
	})
}

func TestNobodyReachesAnothersInstanceByAnyNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 1)
		for _, id := range []InstanceID{i.ID, -i.ID, -1 - i.ID, 0, math.MaxInt64, math.MinInt64} {
			_, err := b.Get(bob, id)
			wantProblem(t, err, NotFound, "")
			if !strings.Contains(err.Error(), fmt.Sprint("instance ", int64(id), " ")) {
				t.Errorf("asked for %d, told %q", id, err)
			}
			_, err = b.Terminate(background, bob, id)
			wantProblem(t, err, NotFound, "")
			_, err = b.Extend(background, ExtendRequest{Account: bob, Instance: id, Hours: 1, RequestID: "", Key: ""})
			wantProblem(t, err, NotFound, "")
		}
		b.want(i.ID, Running)
	})
}

func TestRepeatedLaunchGivesTheFirstAnswerAlsoWhenItsImageIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		r := request("trainer", 1)
		r.Key = "again"
		first, err := b.Launch(background, r)
		if err != nil {
			t.Fatal(err)
		}
		b.machine.set(func() { b.machine.checkErr = errTest })
		again, err := b.Launch(background, r)
		if err != nil || again.ID != first.ID {
			t.Fatalf("%d, %v", again.ID, err)
		}
		r.Hours = 2
		if _, err := b.Launch(background, r); !errors.Is(err, ledger.ErrKeyReused) {
			t.Fatalf("got %v", err)
		}
	})
}
