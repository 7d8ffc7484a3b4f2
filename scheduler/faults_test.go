package scheduler

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger/store"
)

// The clock decides that the time is up, and the user pays for more before that
// is written down: who was told of a new deadline has it.
func TestExtensionInTheLastMomentIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 1)
		var extended error
		once := false
		b.machine.set(func() {
			b.machine.onObserve = func() {
				if !once && !time.Now().Before(i.Deadline()) {
					once = true
					_, extended = b.extend(i.ID, 1)
				}
			}
		})
		time.Sleep(61 * time.Minute)
		b.settle()
		if !once || extended != nil {
			t.Fatalf("%v, %v", once, extended)
		}
		again := b.want(i.ID, Running)
		if !again.Deadline().Equal(i.Deadline().Add(time.Hour)) {
			t.Fatalf("it ends at %s", again.Deadline())
		}
		time.Sleep(time.Until(again.Deadline()))
		b.settle()
		if i = b.want(i.ID, Terminated); i.Ran != 2*time.Hour {
			t.Fatalf("ran %s", i.Ran)
		}
		b.wantWallet(alice, "96.80", "0")
	})
}

// Whatever the errors say and whatever containerd tells of the attempts, they
// are at most some dozens in a quarter of an hour.
func TestFailingStartIsTriedAgainWithPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		var tries atomic.Int64
		b.machine.set(func() {
			b.machine.onRun = func(context.Context) error {
				b.machine.changes <- "instance-1" // as clearing away the last attempt does
				time.Sleep(20 * time.Millisecond)
				return fmt.Errorf("shim %d died", tries.Add(1)) // never the same words twice
			}
		})
		i := b.launch("trainer", 1)
		time.Sleep(10 * time.Minute)
		b.settle()
		b.want(i.ID, Starting)
		if n := tries.Load(); n > 40 {
			t.Errorf("tried %d times in ten minutes", n)
		}
		b.machine.changes <- "" // containerd is back: no reason to wait any longer
		before := tries.Load()
		b.settle()
		time.Sleep(50 * time.Millisecond)
		if tries.Load() == before {
			t.Error("not tried again when containerd came back")
		}
		began := time.Now()
		b.Terminate(background, alice, i.ID)
		for b.read(i.ID).State != Terminated {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("to terminate it took %s", took)
		}
		b.wantWallet(alice, "100", "0")
	})
}

// Work that its own result has brought about is not cut short by the news of it.
func TestNextStepIsNotInterruptedByTheNewsOfTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		var cut atomic.Int64
		b.machine.set(func() {
			b.machine.onRun = func(ctx context.Context) error {
				if ctx.Err() != nil {
					cut.Add(1)
				}
				return ctx.Err()
			}
		})
		for n := range 30 {
			i := b.launch(fmt.Sprint("i", n), 1)
			b.Terminate(background, alice, i.ID)
			b.settle()
		}
		if n := cut.Load(); n > 0 {
			t.Errorf("%d of 30 starts were interrupted before they began", n)
		}
	})
}

// The machine knows how long a container has run whatever the calendar says: a
// box whose clock is put right does not bill the difference.
func TestClockThatIsPutForwardOrBackIsNotBilled(t *testing.T) {
	for _, step := range []time.Duration{5 * time.Hour, -5 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t, 1)
			defer b.close()
			i := b.launch("trainer", 2)
			time.Sleep(30 * time.Minute)
			b.machine.set(func() { b.machine.shift = step })
			if step > 0 {
				b.stop() // in the bubble, only sleeping puts the clock forward
				time.Sleep(step)
				b.start()
			} else {
				b.update(func(tx *store.Tx) error { // and nothing puts it back: so the record goes forward
					fresh, err := get(tx, i.ID)
					fresh.RunningSince, fresh.SeenRunning = fresh.RunningSince.Add(-step), fresh.SeenRunning.Add(-step)
					b.machine.shift = 0
					if err != nil {
						return err
					}
					return put(tx, fresh)
				})
			}
			time.Sleep(2 * heartbeat)
			b.settle()
			b.want(i.ID, Running)
			b.Terminate(background, alice, i.ID)
			b.settle()
			if ran := b.want(i.ID, Terminated).Ran; ran < 30*time.Minute || ran > 32*time.Minute {
				t.Errorf("put by %s: billed %s of 31m", step, ran)
			}
		})
	}
}

// After a power cut containerd may take its time. Whatever ends the instance
// meanwhile, the hours without power are nobody's.
func TestTimeWithoutPowerIsNotBilledThoughContainerdIsAwayAfterwards(t *testing.T) {
	for _, away := range []time.Duration{30 * time.Minute, 5 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t, 1)
			defer b.close()
			i := b.launch("trainer", 2)
			time.Sleep(time.Hour)
			b.stop()
			b.machine.reboot()
			b.machine.set(func() { b.machine.seeErr = errTest })
			time.Sleep(away)
			b.start()
			b.settle()
			b.Terminate(background, alice, i.ID)
			b.settle()
			i = b.want(i.ID, Terminated)
			if i.Ran > time.Hour+time.Second || i.Ran < time.Hour-heartbeat-time.Second {
				t.Errorf("billed %s of an hour (%s)", i.Ran, i.TerminationReason)
			}
		})
	}
}

// EcoLink was away when the time was up. Nobody pays for hours that are over, and
// for the time that the instance ran on, a minute at most.
func TestExtensionThatDoesNotReachThePresentIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 1)
		b.stop()
		time.Sleep(5 * time.Hour)
		_, err := b.extend(i.ID, 1)
		wantProblem(t, err, Conflict, "")
		b.start()
		b.settle()
		if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonExpired || i.Ran != time.Hour+billedLag {
			t.Fatalf("%s after %s", i.TerminationReason, i.Ran)
		}
		b.wantWallet(alice, "98.373334", "0")
	})
}

// The machine is lost: Run says so, and does not wait for ever for its workers.
func TestRunEndsWhenTheMachineIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		b.launch("trainer", 1)
		b.stop()
		b.stop = func() {}
		done := make(chan error, 1)
		s := New(b.store, b.machine, b.gpus, b.log)
		go func() { done <- s.Run(background) }()
		b.settle()
		close(b.machine.changes)
		if err := <-done; err == nil {
			t.Error("no error")
		}
	})
}
