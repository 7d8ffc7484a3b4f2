package metering

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger"
)

func TestForecastPays(t *testing.T) {
	in := func(d time.Duration) time.Time { return noon.Add(d) }
	for name, c := range map[string]struct {
		wallet  ledger.Wallet
		streams []Stream
		burn    string
		lasts   time.Duration // below 0: it does not run out
		low     bool
	}{
		"nothing": {burn: "0.00", lasts: -1},
		"one thing from what is available and held": {
			wallet: ledger.Wallet{Available: usd("10"), Held: usd("24")}, streams: []Stream{{Rate: usd("1"), Held: usd("24")}},
			burn: "1.00", lasts: 34 * time.Hour,
		},
		"money that is held for nobody known": {
			wallet: ledger.Wallet{Available: usd("10"), Held: usd("24")}, streams: []Stream{{Rate: usd("1")}},
			burn: "1.00", lasts: 34 * time.Hour,
		},
		"an instance that ends as planned with the last cent": {
			wallet: ledger.Wallet{Held: usd("4")}, streams: []Stream{{Rate: usd("1"), Until: in(4 * time.Hour), Held: usd("4")}},
			burn: "1.00", lasts: -1,
		},
		"a finite instance stops burning": {
			wallet: ledger.Wallet{Available: usd("50"), Held: usd("10")},
			streams: []Stream{
				{Rate: usd("1"), Until: in(10 * time.Hour), Held: usd("10")},
				{Rate: usd("2")},
			},
			burn: "3.00", lasts: 25 * time.Hour,
		},
		"what is held for one does not pay another": {
			wallet:  ledger.Wallet{Available: usd("10"), Held: usd("100")},
			streams: []Stream{{Rate: usd("1"), Until: in(100 * time.Hour), Held: usd("100")}, {Rate: usd("1")}},
			burn:    "2.00", lasts: 10 * time.Hour, low: true,
		},
		"the rest of a hold comes back when its owner ends": {
			wallet:  ledger.Wallet{Available: usd("10"), Held: usd("30")},
			streams: []Stream{{Rate: usd("1"), Until: in(5 * time.Hour), Held: usd("30")}, {Rate: usd("1")}},
			burn:    "2.00", lasts: 35 * time.Hour,
		},
		"what accrued is spent": {
			wallet: ledger.Wallet{Available: usd("10"), Held: usd("24")}, streams: []Stream{{Rate: usd("1"), Held: usd("24"), Accrued: usd("20")}},
			burn: "1.00", lasts: 14 * time.Hour, low: true,
		},
		"a stream that has ended": {
			wallet: ledger.Wallet{Held: usd("24")}, streams: []Stream{{Rate: usd("1"), Held: usd("24"), Accrued: usd("4"), Until: noon}, {Rate: usd("2")}},
			burn: "2.00", lasts: 10 * time.Hour, low: true,
		},
		"pennies for a lifetime": {wallet: ledger.Wallet{Available: usd("1000000")}, streams: []Stream{{Rate: 1}}, burn: "0.000001", lasts: -1},
	} {
		t.Run(name, func(t *testing.T) {
			o := Forecast(c.wallet, c.streams, noon)
			got := time.Duration(-1)
			if !o.LastsUntil.IsZero() {
				got = o.LastsUntil.Sub(noon)
			}
			// The last micro-dollar is spent once all of it is used.
			if o.BurnPerHour != usd(c.burn) || got < c.lasts || got > c.lasts+time.Second || o.Low() != c.low {
				t.Fatalf("%+v, lasts %s", o, got)
			}
			if got >= 0 && o.Hours != int64(c.lasts/time.Hour) {
				t.Fatalf("%d hours", o.Hours)
			}
		})
	}
}

func TestForecastTellsWhatIsPaidAhead(t *testing.T) {
	o := Forecast(ledger.Wallet{Available: usd("50"), Held: usd("14")}, []Stream{
		{Rate: usd("1"), Until: noon.Add(10 * time.Hour), Held: usd("10")},                     // to the last cent
		{Rate: usd("4"), Until: noon.Add(2 * time.Hour), Held: usd("4"), Accrued: usd("0.01")}, // held too little
		{Rate: usd("2")},                    // without end
		{Rate: usd("8"), Held: usd("1000")}, // the same, however much is held
	}, noon)
	if o.BurnPerHour != usd("15") || o.PaidAhead != usd("1") {
		t.Fatalf("%+v", o)
	}
}

// An hour-by-hour simulation pays each stream from its hold and then from the
// pool, and refunds what is left at its end. With all ends on the hour it must run
// dry in the very hour that Forecast says.
func TestForecastAgreesWithLivingThroughIt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := ledger.Wallet{Available: ledger.MicroUSD(rapid.Int64Range(0, 3000).Draw(rt, "available"))}
		var streams []Stream
		for range rapid.IntRange(0, 6).Draw(rt, "streams") {
			s := Stream{
				Rate:    ledger.MicroUSD(rapid.Int64Range(0, 60).Draw(rt, "rate")),
				Held:    ledger.MicroUSD(rapid.Int64Range(0, 1000).Draw(rt, "held")),
				Accrued: ledger.MicroUSD(rapid.Int64Range(0, 100).Draw(rt, "accrued")),
			}
			if h := rapid.IntRange(-2, 40).Draw(rt, "ends"); h >= -1 {
				s.Until = noon.Add(time.Duration(h) * time.Hour)
			}
			w.Held += s.Held
			streams = append(streams, s)
		}
		o := Forecast(w, streams, noon)
		want := live(w, streams, 4000)
		got := int64(-1)
		if !o.LastsUntil.IsZero() {
			got = o.Hours
		}
		if got != want && !(got > 3999 && want < 0) {
			rt.Fatalf("lasts %d hours, lived %d: %+v", got, want, o)
		}
	})
}

// live gives the whole hours that everything was paid for; below 0 when money did
// not run out in the given hours.
func live(w ledger.Wallet, streams []Stream, hours int) int64 {
	pool := w.Available
	left := make([]ledger.MicroUSD, len(streams))
	burns := false
	pay := func(n int, amount ledger.MicroUSD) {
		own := min(left[n], amount)
		left[n] -= own
		pool -= amount - own
	}
	ends := func(s Stream, hour int) bool {
		return !s.Until.IsZero() && !s.Until.After(noon.Add(time.Duration(hour)*time.Hour))
	}
	over := make([]bool, len(streams))
	refund := func(hour int) {
		for n, s := range streams {
			if !over[n] && ends(s, hour) {
				over[n] = true
				pool += left[n]
				left[n] = 0
			}
		}
	}
	for n, s := range streams {
		left[n] = s.Held
		pay(n, s.Accrued)
		burns = burns || s.Rate > 0 && !ends(s, 0)
	}
	refund(0)
	if !burns {
		return -1
	}
	if pool < 0 {
		return 0
	}
	for hour := range hours {
		for n, s := range streams {
			if !over[n] {
				pay(n, s.Rate)
			}
		}
		if pool < 0 {
			return int64(hour)
		}
		refund(hour + 1)
	}
	return -1
}
