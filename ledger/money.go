package ledger

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// MicroUSD is an amount of money in millionths of a US dollar. All arithmetic on
// it is checked: a result that does not fit is an error, never a wrapped number.
type MicroUSD int64

// Dollar is one US dollar.
const Dollar MicroUSD = 1_000_000

// ErrOverflow is returned when a sum or product of money does not fit.
var ErrOverflow = errors.New("amount of money out of range")

// ParseUSD reads a decimal string such as "3.20" or "-0.000001": at most six
// decimals, no exponent, no sign but a leading minus.
func ParseUSD(s string) (MicroUSD, error) {
	bad := func(why string) (MicroUSD, error) {
		return 0, fmt.Errorf("%q is not an amount in dollars: %s; write it like 3.20", s, why)
	}
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, dot := strings.Cut(digits, ".")
	if whole == "" || (dot && fraction == "") {
		return bad("digits are missing")
	}
	if len(fraction) > 6 {
		return bad("at most six decimals")
	}
	if len(whole) > 13 {
		return bad("too large")
	}
	all := whole + fraction + strings.Repeat("0", 6-len(fraction))
	for _, r := range all {
		if r < '0' || r > '9' {
			return bad("not a digit: " + strconv.QuoteRune(r))
		}
	}
	n, err := strconv.ParseInt(all, 10, 64)
	if err != nil {
		return bad("too large")
	}
	if negative && n == 0 {
		return bad("zero has no minus")
	}
	if negative {
		n = -n
	}
	return MicroUSD(n), nil
}

// String writes the exact amount in dollars, with two to six decimals: "3.20", "0.000125".
func (m MicroUSD) String() string {
	sign, n := "", uint64(m)
	if m < 0 {
		sign, n = "-", -uint64(m)
	}
	fraction := fmt.Sprintf("%06d", n%1_000_000)
	fraction = fraction[:2] + strings.TrimRight(fraction[2:], "0")
	return fmt.Sprintf("%s%d.%s", sign, n/1_000_000, fraction)
}

// Dollars is the exact amount with its sign before the currency's: "$3.20", "-$5.00".
func (m MicroUSD) Dollars() string {
	if rest, negative := strings.CutPrefix(m.String(), "-"); negative {
		return "-$" + rest
	}
	return "$" + m.String()
}

// MarshalText and UnmarshalText make money a decimal string in JSON, as the API
// promises, and in the journal.
func (m MicroUSD) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (m *MicroUSD) UnmarshalText(b []byte) (err error) {
	*m, err = ParseUSD(string(b))
	return err
}

// Add gives m + n.
func (m MicroUSD) Add(n MicroUSD) (MicroUSD, error) {
	sum := m + n
	if (n > 0 && sum < m) || (n < 0 && sum > m) {
		return 0, ErrOverflow
	}
	return sum, nil
}

// Sub gives m - n.
func (m MicroUSD) Sub(n MicroUSD) (MicroUSD, error) {
	if n == math.MinInt64 {
		return 0, ErrOverflow
	}
	return m.Add(-n)
}

// MulDiv is m × n ÷ d, exactly up to the last step, which drops a fraction of a
// micro-dollar. None of them may be negative, nor d be 0.
//
// This is the one rounding rule for charges: rounding is always in the account's
// favour, and by less than a millionth of a dollar a charge.
func MulDiv(m MicroUSD, n, d int64) (MicroUSD, error) {
	if m < 0 || n < 0 || d <= 0 {
		return 0, fmt.Errorf("%s × %d ÷ %d: must not be negative, nor divide by 0", m, n, d)
	}
	hi, lo := bits.Mul64(uint64(m), uint64(n))
	if hi >= uint64(d) {
		return 0, ErrOverflow
	}
	q, _ := bits.Div64(hi, lo, uint64(d))
	if q > math.MaxInt64 {
		return 0, ErrOverflow
	}
	return MicroUSD(q), nil
}

// Cost is what running `units` things for d costs at a rate per hour of each,
// rounded as MulDiv does.
func Cost(ratePerHour MicroUSD, units int, d time.Duration) (MicroUSD, error) {
	if ratePerHour < 0 || units < 0 || d < 0 {
		return 0, fmt.Errorf("cost of %d units at %s for %s: must not be negative", units, ratePerHour, d)
	}
	perHour, err := MulDiv(ratePerHour, int64(units), 1)
	if err != nil {
		return 0, err
	}
	return MulDiv(perHour, int64(d), int64(time.Hour))
}

// Affords is the reverse of Cost: how long the amount pays for, to the
// nanosecond below.
func Affords(amount, ratePerHour MicroUSD, units int) (time.Duration, error) {
	if amount < 0 || ratePerHour < 0 || units < 0 {
		return 0, fmt.Errorf("time that %s pays for: must not be negative", amount)
	}
	hi, perHour := bits.Mul64(uint64(ratePerHour), uint64(units))
	if hi != 0 {
		return 0, ErrOverflow
	}
	if perHour == 0 {
		return math.MaxInt64, nil
	}
	hi, lo := bits.Mul64(uint64(amount), uint64(time.Hour))
	if hi >= perHour {
		return math.MaxInt64, nil
	}
	d, _ := bits.Div64(hi, lo, perHour)
	return time.Duration(min(d, math.MaxInt64)), nil
}
