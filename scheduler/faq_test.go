package scheduler

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/metering"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// The billing section of the FAQ, and the rules of money in SPEC.md 2, 5 and 7, one
// test a sentence: real books, real scheduler, and a clock that leaps.

// rule runs a test in a bubble of fake time, which begins at a midnight in UTC, the
// first of a month. Alice has $100, an H100 costs $1.60 an hour, a GB on a drive
// $0.31 a month, a million tokens of llama $0.50.
func rule(t *testing.T, gpus int, f func(t *testing.T, b *box)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, gpus)
		b.pace = pace{heartbeat: 10 * time.Minute, billing: 5 * time.Minute, placing: 10 * time.Minute}
		b.restart()
		b.update(func(tx *store.Tx) error {
			_, err := price.Set(tx, price.Drive, usd("0.31"), time.Time{}, time.Now(), "")
			return errors.Join(err, second(price.Set(tx, price.Model("llama", price.InputTokens), usd("0.50"), time.Time{}, time.Now(), "")))
		})
		defer b.close()
		f(t, b)
	})
}

// How am I charged?

func TestAPICallsAreChargedPerRequest(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		for _, tokens := range []int64{1_000, 2_000_000} {
			if err := b.call(tokens, 0); err != nil {
				t.Fatal(err)
			}
		}
		b.wantWallet(alice, "98.9995", "0")
		if rows := b.rows(ledger.APIUsage); len(rows) != 2 || rows[0].Amount != usd("0.0005") || rows[1].Usage.InputTokens != 2_000_000 {
			t.Fatalf("%+v", rows)
		}
	})
}

func TestGPUInstancesAreChargedPerGPUHour(t *testing.T) {
	rule(t, 4, func(t *testing.T, b *box) {
		r := request("trainer", 3)
		r.GPUCount = 4
		i, err := b.Launch(background, r)
		if err != nil {
			t.Fatal(err)
		}
		b.wantWallet(alice, "80.80", "19.20") // 4 × 3 h × 1.60
		b.settle()
		b.pass(time.Until(b.read(i.ID).RunningSince.Add(90 * time.Minute)))
		b.machine.exit(i.Workload())
		b.settle()
		i = b.want(i.ID, Terminated)
		rows := b.rows(ledger.GPUUsage)
		if len(rows) != 1 || rows[0].Usage.Seconds != int64(4*i.Ran/time.Second) {
			t.Fatalf("%+v", rows)
		}
		if cost, _ := ledger.Cost(usd("1.60"), 4, i.Ran); rows[0].Amount != cost {
			t.Fatalf("charged %s for %s on 4 GPUs", rows[0].Amount, i.Ran)
		}
	})
}

func TestInferenceIsChargedPerGPUHourOfWhatReallyRan(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		c, err := b.serve(2)
		if err != nil {
			t.Fatal(err)
		}
		b.wantWallet(alice, "23.20", "76.80") // 24 h × 2 × 1.60
		b.pass(12 * time.Hour)
		b.update(func(tx *store.Tx) error { // one replica has died
			return errors.Join(second(metering.SetUnits(tx, c.ID, 1, c.Begun.Add(12*time.Hour), time.Now())), second(metering.SetReserve(tx, c.ID, 1)))
		})
		b.pass(12 * time.Hour)
		if rows := b.rows(ledger.InferenceUsage); len(rows) != 1 || rows[0].Amount != usd("57.60") || rows[0].Usage.Seconds != 36*3600 {
			t.Fatalf("%+v", rows)
		}
		b.wantWallet(alice, "4", "38.40")
	})
}

func TestStorageIsChargedPerGBMonthDaily(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		if err := b.addDrive(100); err != nil {
			t.Fatal(err)
		}
		b.wantWallet(alice, "100", "0")
		b.pass(24 * time.Hour)
		b.wantWallet(alice, "99", "0")
		b.restart()
		b.wantWallet(alice, "99", "0")
		b.stop() // off for ten days, each of which is charged once when it is back
		time.Sleep(10 * 24 * time.Hour)
		b.start()
		b.settle()
		b.pass(20 * 24 * time.Hour)
		b.wantWallet(alice, "69", "0")
		if rows := b.rows(ledger.StorageBilling); len(rows) != 31 {
			t.Fatalf("%d rows in a month of 31 days", len(rows))
		}
	})
}

// What's a credit hold?

func TestLaunchIsRefusedIfTheBalanceDoesNotCoverTheFirstPeriod(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		b.take("1.59")
		wantShort(t, second(b.Launch(background, request("trainer", 1))))
		wantShort(t, second(b.serve(1)))
		wantShort(t, b.addDrive(160)) // $1.60 a day
		b.wantWallet(alice, "1.59", "0")
		b.topUp("0.01")
		b.want(b.launch("trainer", 1).ID, Running)
		b.wantWallet(alice, "0", "1.60")
	})
}

func TestTheEstimatedDurationIsHeldAtLaunchAndTheUnusedPartIsRefundedWhenItStops(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		i := b.launch("trainer", 2)
		b.wantWallet(alice, "96.80", "3.20")
		time.Sleep(time.Until(i.RunningSince.Add(30 * time.Minute)))
		if _, err := b.Terminate(background, alice, i.ID); err != nil {
			t.Fatal(err)
		}
		b.wantWallet(alice, "99.20", "0")
		b.settle()
	})
}

func TestWhatNeverRanIsRefundedInFull(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		b.machine.set(func() { b.machine.pullErr = refusal("no such image") })
		b.want(b.launch("trainer", 2).ID, Failed)
		b.wantWallet(alice, "100", "0")
	})
}

// The FAQ: "at expiry, the instance auto-stops and unused credit hold is refunded.
// Hit Extend before expiry to keep it running."

func TestAnInstanceStopsByItselfAtExpiryAndWhatItDidNotRunIsRefunded(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		b.machine.set(func() { b.machine.pullTime = 10 * time.Minute }) // free
		i := b.launch("trainer", 2)
		b.pass(10 * time.Minute)
		deadline := b.want(i.ID, Running).Deadline()
		b.pass(time.Until(deadline))
		if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonExpired || i.Ran != 2*time.Hour {
			t.Fatalf("%s after %s", i.TerminationReason, i.Ran)
		}
		b.wantWallet(alice, "96.80", "0")
	})
}

func TestExtendBeforeExpiryKeepsItRunning(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		i := b.launch("trainer", 1)
		x, err := b.extend(i.ID, 2)
		if err != nil || x.Added != usd("3.20") {
			t.Fatalf("%s, %v", x.Added, err)
		}
		b.wantWallet(alice, "95.20", "4.80")
		if h := b.hold(i); !h.Deadline.Equal(x.Instance.Deadline().Add(watchdogTime)) {
			t.Errorf("the hold is overdue at %s", h.Deadline)
		}
		b.pass(2 * time.Hour)
		b.want(i.ID, Running)
		b.pass(time.Hour)
		b.want(i.ID, Terminated)
		b.wantWallet(alice, "95.20", "0")
	})
}

func TestExtendWithoutMoneyLeavesTheOldDeadlineInForce(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		i := b.launch("trainer", 1)
		b.take("1.60")
		wantShort(t, second(b.extend(i.ID, 1)))
		b.pass(time.Hour)
		if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonExpired {
			t.Fatal(i.TerminationReason)
		}
		b.wantWallet(alice, "0", "0")
	})
}

// What happens when my balance hits $0?

func TestAtZeroAPICallsAreAnsweredWith402(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		b.take("0.0005")
		if err := b.call(1_000, 0); err != nil {
			t.Fatal(err)
		}
		wantShort(t, b.call(1_000, 0))
		b.view(func(tx *store.Tx) error {
			if s, err := ledger.StandingOf(tx, alice); err != nil || s.Means(ledger.ProductAPI) != ledger.Refuse {
				t.Errorf("%+v, %v", s, err)
			}
			return nil
		})
	})
}

func TestAtZeroGPUInstancesAreEndedAtOnce(t *testing.T) {
	rule(t, 2, func(t *testing.T, b *box) {
		runs, extended, waits := b.launch("runs", 2), b.launch("extended", 2), b.launch("waits", 2)
		b.want(waits.ID, Pending)
		if _, err := b.extend(extended.ID, 1); err != nil {
			t.Fatal(err)
		}
		b.pass(30 * time.Minute)
		b.take("0")
		for _, i := range []Instance{runs, extended, waits} {
			if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonDepleted {
				t.Errorf("%s ended: %s", i.Name, i.TerminationReason)
			}
			if i.Name != "waits" && i.Unbilled < usd("0.79") {
				t.Errorf("%s ran half an hour, and %s of it is unbilled", i.Name, i.Unbilled)
			}
		}
		b.wantWallet(alice, "0", "0")
	})
}

func TestNobodyIsCutShortForMoneyThatIsHeld(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		b.take("3.20")
		i := b.launch("trainer", 2)
		b.wantWallet(alice, "0", "3.20")
		b.pass(2*time.Hour - time.Minute)
		b.restart()
		b.want(i.ID, Running)
		b.pass(time.Minute)
		if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonExpired {
			t.Fatal(i.TerminationReason)
		}
	})
}

func TestMoneyThatEndedWhileEcoLinkWasOffEndsInstancesWhenItIsBack(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		i := b.launch("trainer", 2)
		b.stop()
		b.take("0")
		b.start()
		b.settle()
		if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonDepleted {
			t.Fatal(i.TerminationReason)
		}
		b.wantWallet(alice, "0", "0")
	})
}

func TestAtZeroInferenceEndsAtTheNext24HourBoundaryAndNotBefore(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		c, err := b.serve(2)
		if err != nil {
			t.Fatal(err)
		}
		b.pass(12 * time.Hour)
		b.take("0")
		b.pass(12*time.Hour - time.Second)
		if c = b.cycle(c.ID); c.State != metering.Active {
			t.Fatalf("ended before its boundary: %s", c.Reason)
		}
		b.pass(time.Second)
		if c = b.cycle(c.ID); c.State != metering.Stopped || c.Reason != metering.CreditDepleted || !c.Ended.Equal(c.Begun.Add(24*time.Hour)) {
			t.Fatalf("%+v", c)
		}
		b.wantWallet(alice, "0", "0")
	})
}

func TestAtZeroStorageIsSuspendedAndNotDeletedAndComesBackByItself(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		if err := b.addDrive(100); err != nil {
			t.Fatal(err)
		}
		b.pass(6 * time.Hour)
		b.take("0")
		if v := b.drive(); !v.Suspended {
			t.Fatal("not suspended at once")
		}
		b.pass(40 * 24 * time.Hour)
		b.restart()
		if v := b.drive(); !v.Suspended || v.GB != 100 {
			t.Fatalf("%+v", v)
		}
		b.topUp("0.99") // less than a day
		b.settle()
		if v := b.drive(); !v.Suspended {
			t.Fatal("back without the money for a day")
		}
		b.topUp("50")
		b.pass(b.pace.billing)
		if v := b.drive(); v.Suspended {
			t.Fatal("still suspended")
		}
		b.wantWallet(alice, "50.99", "0") // the time in between is free
	})
}

func TestStorageOfAnAccountThatHasMoneyAgainIsBackAtOnce(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		if err := b.addDrive(100); err != nil {
			t.Fatal(err)
		}
		b.take("0")
		b.topUp("50")
		b.settle()
		if v := b.drive(); v.Suspended {
			t.Fatal("still suspended")
		}
	})
}

// How long does a user inference instance run? "Every 24h the billing worker renews
// with a new hold if your balance can cover it (or a partial hold if it can't). When
// balance hits $0, the instance is stopped."

func TestInferenceRenewsWithAFullHoldThenAPartialOneAndThenStops(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		c, err := b.serve(1)
		if err != nil {
			t.Fatal(err)
		}
		b.wantWallet(alice, "61.60", "38.40")
		b.pass(24 * time.Hour)
		b.wantWallet(alice, "23.20", "38.40")
		b.pass(24 * time.Hour)
		b.wantWallet(alice, "0", "23.20") // for 14.5 of the next 24 hours
		if c = b.cycle(c.ID); !c.Partial() || c.Covered.Sub(c.Begun) != 14*time.Hour+30*time.Minute {
			t.Fatalf("%+v", c)
		}
		b.pass(23*time.Hour + 59*time.Minute)
		if b.cycle(c.ID).State != metering.Active {
			t.Fatal("ended before its boundary")
		}
		b.pass(time.Minute)
		if c = b.cycle(c.ID); c.State != metering.Stopped || c.Reason != metering.CreditDepleted || c.Charged != usd("100") {
			t.Fatalf("%+v", c)
		}
		b.wantWallet(alice, "0", "0")
	})
}

func TestInferenceThatHasMoneyGoesOnWhileEcoLinkIsOff(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		if _, err := b.serve(1); err != nil {
			t.Fatal(err)
		}
		b.stop()
		time.Sleep(36 * time.Hour)
		b.start()
		b.settle()
		b.wantWallet(alice, "23.20", "38.40")
		b.restart()
		b.wantWallet(alice, "23.20", "38.40")
	})
}

// SPEC.md 7.

func TestTheSignUpBonusIsARowOfItsOwn(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		b.update(func(tx *store.Tx) error {
			return second(ledger.GiveBonus(tx, ledger.Entry{At: time.Now(), Account: alice, Amount: usd("1"), Description: "welcome"}))
		})
		b.wantWallet(alice, "101", "0")
		if rows := b.rows(ledger.Bonus); len(rows) != 1 {
			t.Fatalf("%+v", rows)
		}
	})
}

func TestACorrectionNeedsAReasonAndIsARowOfItsOwn(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		correct := func(amount, reason string) error {
			return b.store.Update(background, func(tx *store.Tx) error {
				return second(ledger.Correct(tx, ledger.Entry{At: time.Now(), Account: alice, Amount: usd(amount), Description: reason}))
			})
		}
		if err := correct("-1", " "); !errors.Is(err, ledger.ErrNoReason) {
			t.Fatal(err)
		}
		if err := errors.Join(correct("-1", "credited twice"), correct("3", "sorry")); err != nil {
			t.Fatal(err)
		}
		b.wantWallet(alice, "102", "0")
		if rows := b.rows(ledger.AdminCorrection); len(rows) != 2 || rows[0].Description != "credited twice" {
			t.Fatalf("%+v", rows)
		}
	})
}

func TestAKeysMonthlyCapRefusesWhatWouldExceedItUntilTheNextMonth(t *testing.T) {
	rule(t, 2, func(t *testing.T, b *box) {
		const key identity.KeyID = 7
		b.update(func(tx *store.Tx) error { return ledger.SetKeyCap(tx, key, usd("4"), 0, time.Now()) })
		var capped *ledger.CapError // which the API answers with 402, too
		r := request("trainer", 3)
		r.APIKey, r.Tag = key, "nightly"
		if q, err := b.Quote(background, r); err != nil || q.Covered() || !errors.As(q.Capped, &capped) {
			t.Fatalf("%+v, %v", q, err)
		}
		if _, err := b.Launch(background, r); !errors.As(err, &capped) {
			t.Fatal(err)
		}
		r.Hours = 2
		i, err := b.Launch(background, r) // 3.20 of 4.00
		if err != nil {
			t.Fatal(err)
		}
		b.settle()
		if _, err := b.Extend(background, ExtendRequest{Account: alice, Instance: i.ID, Hours: 1, APIKey: key}); !errors.As(err, &capped) {
			t.Fatal(err)
		}
		if err := b.call(2_000_000, key); !errors.As(err, &capped) {
			t.Fatal(err)
		}
		if err := b.call(2_000_000, 0); err != nil { // only the key is capped
			t.Fatal(err)
		}
		b.pass(time.Hour)
		if _, err := b.Terminate(background, alice, i.ID); err != nil { // what comes back does not count
			t.Fatal(err)
		}
		if err := b.call(2_000_000, key); err != nil {
			t.Fatal(err)
		}
		for _, row := range append(b.rows(ledger.HoldPlaced), b.rows(ledger.GPUUsage)...) {
			if row.APIKey != key || row.Tag != "nightly" {
				t.Errorf("%s of %s counts for key %d, %q", row.Type, row.Amount, row.APIKey, row.Tag)
			}
		}
		if err := b.call(4_000_000, key); !errors.As(err, &capped) || capped.Until != time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC) {
			t.Fatal(err)
		}
		b.pass(time.Until(capped.Until))
		if err := b.call(4_000_000, key); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAPriceChangeDoesNotTouchWhatRuns(t *testing.T) {
	rule(t, 2, func(t *testing.T, b *box) {
		i := b.launch("old", 2)
		c, err := b.serve(1)
		if err != nil {
			t.Fatal(err)
		}
		b.setPrice("3.20", time.Time{})
		if x, err := b.extend(i.ID, 1); err != nil || x.Added != usd("1.60") {
			t.Fatalf("%s, %v", x.Added, err)
		}
		if n := b.launch("new", 1); n.Rate != usd("3.20") {
			t.Fatal(n.Rate)
		}
		b.wantWallet(alice, "53.60", "46.40") // of 4.80, 38.40 and 3.20
		b.pass(24 * time.Hour)
		if c = b.cycle(c.ID); c.Charged != usd("38.40") {
			t.Fatal(c.Charged)
		}
		b.want(i.ID, Terminated)
		b.wantWallet(alice, "15.20", "38.40")
	})
}

func TestAnEndThatComesLateCostsAMinuteAtMost(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		b.take("1.60")
		i := b.launch("trainer", 1)
		b.stop()
		time.Sleep(5 * time.Hour)
		b.start()
		b.settle()
		if i = b.want(i.ID, Terminated); i.Ran != time.Hour+time.Minute {
			t.Fatal(i.Ran)
		}
		b.wantWallet(alice, "-0.026666", "0") // the one thing that may take a balance below zero
	})
}
