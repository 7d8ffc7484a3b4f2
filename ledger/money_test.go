package ledger

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMoneyIsReadAndWrittenExactly(t *testing.T) {
	for in, want := range map[string]string{
		"3.20": "3.20", "0": "0.00", "-1.5": "-1.50", "0.000125": "0.000125", "1.6": "1.60",
		"0.100000": "0.10", "9223372036854.775807": "9223372036854.775807",
	} {
		m, err := ParseUSD(in)
		if err != nil || m.String() != want {
			t.Errorf("ParseUSD(%q) = %s, %v, want %s", in, m, err, want)
		}
	}
	for _, in := range []string{"", ".", "1.", ".5", "+1", "1e3", "1.0000001", "NaN", "Inf", "--1", "1,50", "$1", "9223372036855", "99999999999999", "1.-5", "١"} {
		if m, err := ParseUSD(in); err == nil {
			t.Errorf("ParseUSD(%q) = %s, want an error", in, m)
		}
	}
}

func FuzzParseUSD(f *testing.F) {
	for _, s := range []string{"3.20", "-0.000001", "1e9", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseUSD(s)
		if err != nil {
			return
		}
		if again, err := ParseUSD(m.String()); err != nil || again != m {
			t.Fatalf("%q → %s → %s, %v", s, m, again, err)
		}
	})
}

func TestCostDropsFractionsAndRefusesWhatDoesNotFit(t *testing.T) {
	rate := 1_600_000 * MicroUSD(1)
	for _, row := range []struct {
		units int
		d     time.Duration
		want  string
	}{
		{1, 2 * time.Hour, "3.20"}, {1, 30 * time.Minute, "0.80"}, {8, time.Hour, "12.80"},
		{1, time.Second, "0.000444"}, {1, 0, "0.00"}, {0, time.Hour, "0.00"},
	} {
		got, err := Cost(rate, row.units, row.d)
		if err != nil || got.String() != row.want {
			t.Errorf("%d for %s: %s, %v, want %s", row.units, row.d, got, err, row.want)
		}
	}
	if _, err := Cost(math.MaxInt64, 8, 100*time.Hour); err == nil {
		t.Error("an overflow was not noticed")
	}
	if _, err := Cost(rate, -1, time.Hour); err == nil {
		t.Error("negative units were not noticed")
	}
}

// What an amount pays for never costs more than the amount, and a microsecond
// more of time is never what rounding ate.
func TestAffordsIsTheReverseOfCost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := MicroUSD(rapid.Int64Range(1, 100_000_000).Draw(t, "rate"))
		units := rapid.IntRange(1, 16).Draw(t, "units")
		amount := MicroUSD(rapid.Int64Range(0, 1_000_000_000_000).Draw(t, "amount"))
		d, err := Affords(amount, rate, units)
		if err != nil {
			t.Fatal(err)
		}
		if d == math.MaxInt64 {
			return
		}
		cost, err := Cost(rate, units, d)
		if err != nil || cost > amount || amount-cost > 1 {
			t.Fatalf("%s pays for %s, which costs %s (%v)", amount, d, cost, err)
		}
	})
}
