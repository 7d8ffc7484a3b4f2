package throttle

import (
	"strconv"
	"testing"
	"time"
)

func TestThrottleCountsByNameWithinItsWindowAndMemory(t *testing.T) {
	const maxFailures = 10
	th, now := New(maxFailures), time.Now()
	for range maxFailures {
		if _, ok := th.Begin(now, "a", "x"); !ok {
			t.Fatal("refused too early")
		}
	}
	if wait, ok := th.Begin(now.Add(time.Minute), "a", "y"); ok || wait != Window-time.Minute {
		t.Errorf("a: %v %v", wait, ok)
	}
	if wait := th.Wait(now, "b", "a"); wait != Window {
		t.Errorf("who would have to wait learns %v", wait)
	}
	if _, ok := th.Begin(now, "b", "x"); ok {
		t.Error("x is not refused with another e-mail")
	}
	if _, ok := th.Begin(now, "b", "y"); !ok {
		t.Error("b from y is refused")
	}
	if _, ok := th.Begin(now.Add(Window), "a", "x"); !ok {
		t.Error("still refused after the window")
	}
	th = New(maxFailures)
	for range 3 * maxFailures { // successes do not count
		if _, ok := th.Begin(now, "a"); !ok {
			t.Fatal("refused although nothing failed")
		}
		th.Undo(now, "a")
	}
	if th.recent.Len() != 0 || len(th.byName) != 0 {
		t.Error("successes are remembered")
	}
	for n := range 2 * maxNames {
		th.Begin(now, strconv.Itoa(n))
	}
	if th.recent.Len() != maxNames || len(th.byName) != maxNames {
		t.Errorf("%d and %d names are remembered", th.recent.Len(), len(th.byName))
	}
}

func TestAttemptsCountByWhatOneSubscriberHas(t *testing.T) {
	same := func(a, b string) bool { return Address(a) == Address(b) }
	if !same("2001:db8::1", "2001:db8::ffff:1") || same("2001:db8::1", "2001:db8:0:1::1") {
		t.Error("IPv6 addresses do not count by their /64")
	}
	if !same("::ffff:192.0.2.1", "192.0.2.1") || same("192.0.2.1", "192.0.2.2") {
		t.Error("IPv4 addresses do not count by themselves")
	}
}
