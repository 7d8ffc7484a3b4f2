package ledger

import (
	"errors"
	"math"
	"math/big"
	"strings"
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

// An amount has exactly the forms that people write prices in: everything else is
// refused, with a word on how to write it, and never guessed at. "-0" is refused
// too: nobody means it, and a sign that says nothing hides a slip.
func TestParseUSDTakesAnExactAmountOrSaysHowToWriteIt(t *testing.T) {
	for in, want := range map[string]MicroUSD{
		"0.1": 100_000, "0": 0, "0.00": 0, "007": 7 * Dollar, "3.20": 3_200_000, "-3.2": -3_200_000, "-0.000001": -1, "0.000001": 1,
		"9223372036854.775807": math.MaxInt64, "-9223372036854.775807": -math.MaxInt64,
	} {
		if got, err := ParseUSD(in); err != nil || got != want {
			t.Errorf("ParseUSD(%q) = %d, %v, want %d", in, int64(got), err, int64(want))
		}
	}
	for _, in := range []string{
		"", " ", "-", "+", ".", "-.", "1.", ".5", "-.5", "--1", "+1", "- 1", "1-", "-0", "-0.00", "1.2.3", "1..2",
		"1e3", "1E3", "1e-3", "0x10", "1_000", "NaN", "Inf", "-Inf", " 1", "1 ", "1\n", "1\x00", "\ufeff1", "1\u00a0000",
		"1,50", "1.234,56", "1,234.56", "$5", "5$", "5 USD", "€5", "٣", "３", "½", "1٫5", "−1", "1.0000001", "1.0000000",
		"9223372036854.775808", "-9223372036854.775808", "9223372036855", "9999999999999999999", "1234567890123456789", "00000000000001",
	} {
		got, err := ParseUSD(in)
		if err == nil {
			t.Errorf("ParseUSD(%q) = %s, want an error", in, got)
		} else if !strings.Contains(err.Error(), "write it like 3.20") || got != 0 {
			t.Errorf("ParseUSD(%q) = %s and says %q", in, got, err)
		}
	}
}

func TestEveryAmountSurvivesBeingWritten(t *testing.T) {
	// The least int64 is no amount: it has no opposite.
	rapid.Check(t, func(t *rapid.T) {
		m := MicroUSD(rapid.OneOf(rapid.Int64Min(-math.MaxInt64), rapid.SampledFrom([]int64{math.MaxInt64, -math.MaxInt64, 0, -1, 999_999})).Draw(t, "m"))
		if got, err := ParseUSD(m.String()); err != nil || got != m {
			t.Fatalf("%d is written as %q and read as %d, %v", int64(m), m, int64(got), err)
		}
	})
}

func FuzzParseUSD(f *testing.F) {
	for _, s := range []string{"3.20", "-0.000001", "1e9", "", "-0", "1,50", "٣", "-9223372036854.775808", "9223372036854.775807"} {
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
		// Exact, by another way of reckoning.
		want, ok := new(big.Rat).SetString(s)
		if !ok || want.Cmp(big.NewRat(int64(m), int64(Dollar))) != 0 {
			t.Fatalf("%q is read as %d millionths", s, int64(m))
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

func TestMulDivIsExactUntilItDropsTheFraction(t *testing.T) {
	if got, err := MulDiv(math.MaxInt64, math.MaxInt64, math.MaxInt64); err != nil || got != math.MaxInt64 {
		t.Errorf("%s, %v", got, err)
	}
	for _, row := range []struct {
		m    MicroUSD
		n, d int64
	}{{math.MaxInt64, 2, 1}, {math.MaxInt64, math.MaxInt64, 1}, {math.MaxInt64, 4, 2}} {
		if got, err := MulDiv(row.m, row.n, row.d); !errors.Is(err, ErrOverflow) {
			t.Errorf("%+v: %s, %v", row, got, err)
		}
	}
	for _, row := range []struct {
		m    MicroUSD
		n, d int64
	}{{-1, 1, 1}, {1, -1, 1}, {1, 1, -1}, {1, 1, 0}} {
		if got, err := MulDiv(row.m, row.n, row.d); err == nil {
			t.Errorf("%+v: %s", row, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.Int64Min(0).Draw(t, "m")
		n := rapid.Int64Min(0).Draw(t, "n")
		d := rapid.Int64Min(1).Draw(t, "d")
		want := new(big.Int).Mul(big.NewInt(m), big.NewInt(n))
		want.Quo(want, big.NewInt(d))
		got, err := MulDiv(MicroUSD(m), n, d)
		if want.IsInt64() != (err == nil) || err == nil && int64(got) != want.Int64() {
			t.Fatalf("%d, %v, want %s", int64(got), err, want)
		}
	})
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
