package price

import (
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger"
)

func TestCostsDropTheFraction(t *testing.T) {
	tokens := Price{Item: Model("llama", InputTokens), Amount: usd("0.05")}
	for n, want := range map[int64]string{0: "0.00", 19: "0.00", 20: "0.000001", 39: "0.000001", 1_000_000: "0.05", 1_000_000_000_000: "50000.00"} {
		if got, err := tokens.Cost(n); err != nil || got != usd(want) {
			t.Errorf("%d tokens: %s, %v, want %s", n, got, err, want)
		}
	}
	image := Price{Item: Model("flux", Image), Amount: usd("0.04")}
	if got, err := image.Cost(3); err != nil || got != usd("0.12") {
		t.Errorf("%s, %v", got, err)
	}
	audio := Price{Item: Model("whisper", AudioSecond), Amount: usd("0.0001")}
	if got, err := audio.CostOfTime(1, 1555*time.Millisecond); err != nil || got != usd("0.000155") {
		t.Errorf("%s, %v", got, err)
	}
	gpu := Price{Item: GPU("h100"), Amount: usd("1.60")}
	if got, err := gpu.CostOfTime(8, 90*time.Minute); err != nil || got != usd("19.20") {
		t.Errorf("%s, %v", got, err)
	}
	slice := Price{Item: MIG("h100", "1g.10gb"), Amount: usd("0.25")}
	if got, err := slice.CostOfTime(1, time.Second); err != nil || got != usd("0.000069") {
		t.Errorf("%s, %v", got, err)
	}
}

func TestCostRefusesWhatDoesNotFit(t *testing.T) {
	gpu := Price{Item: GPU("h100"), Amount: maxAmount}
	if _, err := gpu.CostOfTime(math.MaxInt, time.Hour); !errors.Is(err, ledger.ErrOverflow) {
		t.Error(err)
	}
	tokens := Price{Item: Model("llama", OutputTokens), Amount: maxAmount}
	if _, err := tokens.Cost(math.MaxInt64); !errors.Is(err, ledger.ErrOverflow) {
		t.Error(err)
	}
	if _, err := StorageCost(maxAmount, math.MaxInt64, day(1), day(2)); !errors.Is(err, ledger.ErrOverflow) {
		t.Error(err)
	}
	for what, f := range map[string]func() (ledger.MicroUSD, error){
		"tokens below 0":              func() (ledger.MicroUSD, error) { return tokens.Cost(-1) },
		"GPUs below 0":                func() (ledger.MicroUSD, error) { return gpu.CostOfTime(-1, time.Hour) },
		"time below 0":                func() (ledger.MicroUSD, error) { return gpu.CostOfTime(1, -time.Hour) },
		"storage below 0":             func() (ledger.MicroUSD, error) { return StorageCost(1, -1, day(1), day(2)) },
		"storage that ends too early": func() (ledger.MicroUSD, error) { return StorageCost(1, 1, day(2), day(1)) },
		"GPUs counted as things":      func() (ledger.MicroUSD, error) { return gpu.Cost(1) },
		"tokens counted by time":      func() (ledger.MicroUSD, error) { return tokens.CostOfTime(1, time.Hour) },
		"GPUs counted as storage":     func() (ledger.MicroUSD, error) { return gpu.CostOfStorage(1, day(1), day(2)) },
	} {
		if got, err := f(); err == nil {
			t.Errorf("%s cost %s", what, got)
		}
	}
}

func TestCalendarMonthOfStorageCostsExactlyItsPrice(t *testing.T) {
	p := Price{Item: Drive, Amount: usd("0.079999")}
	for _, m := range []time.Month{time.January, time.February, time.April} {
		begin := time.Date(2028, m, 1, 0, 0, 0, 0, time.UTC)
		end := begin.AddDate(0, 1, 0)
		if got, err := p.CostOfStorage(3, begin, end); err != nil || got != usd("0.239997") {
			t.Errorf("%s: %s, %v", m, got, err)
		}
		var daily ledger.MicroUSD
		for d := begin; d.Before(end); d = d.AddDate(0, 0, 1) {
			c, err := p.CostOfStorage(3, d, d.AddDate(0, 0, 1))
			if err != nil {
				t.Fatal(err)
			}
			daily += c
		}
		if daily != usd("0.239997") {
			t.Errorf("the days of %s add up to %s", m, daily)
		}
	}
}

func TestPartOfAMonthCostsItsShareOfThatMonth(t *testing.T) {
	for _, row := range []struct {
		from, to time.Time
		want     string
	}{
		{date(2027, 2, 1), date(2027, 2, 15), "1.40"},                                             // half of 28 days
		{date(2027, 1, 17), date(2027, 2, 15), "2.754839"},                                        // 15/31 and 14/28
		{date(2027, 2, 15), date(2028, 2, 15), "33.551724"},                                       // 1/2, 11 months, 14/29
		{date(2027, 3, 5), date(2027, 3, 5), "0.00"},                                              // no time at all
		{date(2027, 2, 1).In(time.FixedZone("", 3*3600)), date(2027, 3, 1), "2.80"},               // months are UTC's
		{time.Date(2027, 2, 1, 3, 0, 0, 0, time.FixedZone("", 3*3600)), date(2027, 3, 1), "2.80"}, // likewise
	} {
		if got, err := StorageCost(usd("0.028"), 100, row.from, row.to); err != nil || got != usd(row.want) {
			t.Errorf("%s to %s: %s, %v, want %s", row.from, row.to, got, err, row.want)
		}
	}
}

func TestAnySplitOfASpanCostsTheWhole(t *testing.T) {
	epoch := date(2026, 1, 1)
	rapid.Check(t, func(t *rapid.T) {
		perGB := ledger.MicroUSD(rapid.Int64Range(0, int64(ledger.Dollar)).Draw(t, "price"))
		gb := rapid.Int64Range(0, 100_000).Draw(t, "gb")
		at := epoch.Add(time.Duration(rapid.Int64Range(0, int64(5*365*24*time.Hour)).Draw(t, "from")))
		from := at
		var sum ledger.MicroUSD
		for _, step := range rapid.SliceOfN(rapid.Int64Range(0, int64(70*24*time.Hour)), 1, 40).Draw(t, "steps") {
			next := at.Add(time.Duration(step))
			c, err := StorageCost(perGB, gb, at, next)
			if err != nil || c < 0 {
				t.Fatalf("%s, %v", c, err)
			}
			sum, at = sum+c, next
		}
		whole, err := StorageCost(perGB, gb, from, at)
		if err != nil || whole != sum {
			t.Fatalf("from %s to %s: %s whole, %s in pieces, %v", from, at, whole, sum, err)
		}
	})
}

func date(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }

func day(d int) time.Time { return date(2026, 12, d) }

func usd(s string) ledger.MicroUSD {
	m, err := ledger.ParseUSD(s)
	if err != nil {
		panic(err)
	}
	return m
}
