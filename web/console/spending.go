package console

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
)

// Limits of what is shown of a month's spending.
const (
	shownMonths = 24  // that can be chosen
	shownShares = 5   // of each dimension at once
	moreShares  = 100 // of each dimension at all
)

// monthName is a calendar month, UTC.
type monthName struct {
	Key  string // 2026-11
	Name string // November 2026
}

func nameOf(t time.Time) monthName {
	return monthName{Key: t.Format("2006-01"), Name: t.Format("January 2006")}
}

// monthOf is the month that a text names; the current one for any other text.
func monthOf(text string, now time.Time) time.Time {
	if t, err := time.Parse("2006-01", text); err == nil {
		return t
	}
	return ledger.MonthOf(now)
}

// spending is what an account spent in a month.
type spending struct {
	Month   monthName
	Months  []monthName // that can be chosen, the newest first
	Current string      // the key of the one that it is
	Total   usage.Sum
	Days    []dayBar
	Dearest ledger.MicroUSD // a day's
	Parts   []breakdown
}

// dayBar is a day of the chart.
type dayBar struct {
	Day    time.Time
	Amount ledger.MicroUSD
	X, Y   int // of its bar, whose foot is at chartHeight
}

// The chart's own units.
const (
	barWidth    = 16
	barStep     = 20
	chartHeight = 120
)

// breakdown is a month's spending in one dimension.
type breakdown struct {
	Title, Empty string
	Shares, More []share // those shown at once, and on demand
}

// share is a line of a breakdown.
type share struct {
	Name, URL string
	Amount    ledger.MicroUSD
	Detail    string // what it was for, in quantities
	Thousands int64  // of the month's total
}

func readSpending(tx *store.Tx, a identity.Account, month, now time.Time) (s spending, err error) {
	s = spending{Month: nameOf(month), Months: monthsOf(a, month, now), Current: nameOf(ledger.MonthOf(now)).Key}
	b, err := usage.Month(tx, a.ID, month)
	if err != nil {
		return s, err
	}
	s.Total = b.Total
	points, err := usage.Series(tx, a.ID, month, month.AddDate(0, 1, 0), usage.Daily)
	var gone *usage.RangeError // of a month long ago there are no days any more
	if err != nil && !errors.As(err, &gone) {
		return s, err
	}
	s.addDays(points)
	keys, err := keyNames(tx, a.ID, b.ByKey)
	if err != nil {
		return s, err
	}
	itself := func(name string) string { return name }
	for _, d := range []struct {
		title, empty, unnamed string
		part                  usage.Part
		name                  func(string) string
	}{
		{"By product", "Nothing yet", "", b.ByProduct, func(name string) string { return kind(ledger.Type(name)) }},
		{"By model", "No models were called", "", b.ByModel, itself},
		{"By API key", "Nothing yet", "Without a key", b.ByKey, func(name string) string { return keys[name] }},
		{"By tag", "Nothing yet", "Without a tag", b.ByTag, itself},
		{"By resource", "Nothing yet", "", b.ByResource, itself},
	} {
		s.Parts = append(s.Parts, breakdownOf(d.title, d.empty, d.unnamed, d.part, b.Total, d.name))
	}
	return s, nil
}

func readSpentNow(tx *store.Tx, a identity.AccountID, now time.Time) (spentNow, error) {
	b, err := usage.Month(tx, a, now)
	return spentNow{Amount: b.Total.Amount, Calls: b.Product(ledger.APIUsage).Calls, Tokens: b.Total.Tokens()}, err
}

// monthsOf are the months that can be chosen: since the account was made, and the
// one that is shown.
func monthsOf(a identity.Account, shown, now time.Time) (out []monthName) {
	first := ledger.MonthOf(a.Created)
	listed := false
	for m := ledger.MonthOf(now); len(out) < shownMonths && (len(out) == 0 || !m.Before(first)); m = m.AddDate(0, -1, 0) {
		out = append(out, nameOf(m))
		listed = listed || m.Equal(shown)
	}
	if !listed {
		out = append(out, nameOf(shown))
	}
	return out
}

func (s *spending) addDays(points []usage.Point) {
	for _, p := range points {
		s.Dearest = max(s.Dearest, p.Amount)
	}
	for n, p := range points {
		bar := dayBar{Day: p.From, Amount: p.Amount, X: n * barStep, Y: chartHeight}
		if p.Amount > 0 { // one can see it, be it ever so small
			bar.Y = chartHeight - max(2, int(float64(p.Amount)/float64(s.Dearest)*chartHeight))
		}
		s.Days = append(s.Days, bar)
	}
}

func (s spending) chartWidth() int { return len(s.Days)*barStep - (barStep - barWidth) }

// keyNames are the names of the keys in a breakdown.
func keyNames(tx *store.Tx, a identity.AccountID, p usage.Part) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range p.Shares[:min(moreShares, len(p.Shares))] {
		id, err := strconv.ParseInt(s.Name, 10, 64)
		if err != nil {
			continue
		}
		out[s.Name] = "Key " + s.Name
		k, err := identity.KeyByID(tx, a, identity.KeyID(id))
		if errors.Is(err, identity.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[s.Name] = k.Name
		if !k.Revoked.IsZero() {
			out[s.Name] += " (revoked)"
		}
	}
	return out, nil
}

func breakdownOf(title, empty, unnamed string, p usage.Part, total usage.Sum, name func(string) string) breakdown {
	b := breakdown{Title: title, Empty: empty}
	var lines []share
	add := func(name, url string, s usage.Sum) {
		if s == (usage.Sum{}) {
			return
		}
		line := share{Name: name, URL: url, Amount: s.Amount, Detail: quantities(s)}
		if total.Amount > 0 {
			line.Thousands = int64(float64(s.Amount) / float64(total.Amount) * 1000)
		}
		lines = append(lines, line)
	}
	others := p.Others
	for n, s := range p.Shares {
		if n >= moreShares {
			others = others.Plus(s.Sum)
			continue
		}
		add(name(s.Name), resourceURL(s.Name), s.Sum)
	}
	add("Others", "", others)
	if unnamed != "" {
		add(unnamed, "", p.Unnamed)
	}
	slices.SortStableFunc(lines, func(x, y share) int { return cmp.Compare(y.Amount, x.Amount) })
	shown := min(shownShares, len(lines))
	b.Shares, b.More = lines[:shown], lines[shown:]
	return b
}

// quantities says in words what was used.
func quantities(s usage.Sum) string {
	var out []string
	add := func(n int64, text string) {
		if n > 0 {
			out = append(out, text)
		}
	}
	add(s.GPUSeconds, fmt.Sprintf("%s GPU-hours", decimal(s.GPUSeconds, 3600)))
	add(s.InputTokens, short(s.InputTokens)+" tokens in")
	add(s.OutputTokens, short(s.OutputTokens)+" out")
	add(s.Images, thousands(s.Images)+" images")
	add(s.AudioMillis, decimal(s.AudioMillis, 60_000)+" min of audio")
	add(s.VideoMillis, decimal(s.VideoMillis, 60_000)+" min of video")
	if len(out) == 0 || s.GPUSeconds == 0 {
		out = append([]string{charges(s.Calls)}, out...)
	}
	return strings.Join(out, " · ")
}

// short writes a large number in few digits: 76.2M.
func short(n int64) string {
	for _, u := range []struct {
		unit int64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}} {
		if n >= u.unit {
			return fmt.Sprintf("%d.%d%s", n/u.unit, n%u.unit*10/u.unit, u.name)
		}
	}
	return thousands(n)
}

// brief is money where cents are enough, unless it is less than a dollar.
func brief(m ledger.MicroUSD) string {
	if m >= ledger.Dollar {
		return cents(m)
	}
	return money(m)
}

func charges(n int64) string {
	if n == 1 {
		return "1 charge"
	}
	return thousands(n) + " charges"
}

// decimal writes n ÷ unit with up to two decimals.
func decimal(n, unit int64) string {
	text := fmt.Sprintf("%s.%02d", thousands(n/unit), n%unit*100/unit)
	return strings.TrimSuffix(strings.TrimSuffix(text, "0"), ".0")
}

// thousands writes a number with its groups apart: 12,345.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var out strings.Builder
	for i, r := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(r)
	}
	return out.String()
}
