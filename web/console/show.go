package console

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ecolink/ledger"
	"ecolink/scheduler"
)

// money writes an amount for people: $3.20, −$1.00.
func money(m ledger.MicroUSD) string {
	if s, negative := strings.CutPrefix(m.String(), "-"); negative {
		return "−$" + s
	}
	return "$" + m.String()
}

// counted says how many there are of something: "1 layer", "2 layers".
func counted(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// cents is money for what changes every second, where more than cents would
// only flicker. What is dropped is shown exactly once it is charged.
func cents(m ledger.MicroUSD) string {
	return money(m - m%10_000)
}

// change is money that came or went: +$25.00, −$1.00.
func change(m ledger.MicroUSD) string {
	if m > 0 {
		return "+" + money(m)
	}
	return money(m)
}

// span writes a length of time, in the two largest units; times.js writes it alike.
func span(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	units := []struct {
		seconds int64
		name    string
	}{{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}}
	for n, u := range units {
		if s < u.seconds && n < len(units)-1 {
			continue
		}
		text := fmt.Sprintf("%d %s", s/u.seconds, u.name)
		if n == len(units)-1 || u.name == "min" && s >= 5*60 { // seconds matter near the end only
			return text
		}
		if rest := s % u.seconds / units[n+1].seconds; rest > 0 {
			text += fmt.Sprintf(" %d %s", rest, units[n+1].name)
		}
		return text
	}
	return ""
}

// level is how near a deadline is; SPEC.md 2 warns at 30 and 20 minutes and is
// critical at 10, 5 and 1.
func level(left time.Duration) string {
	switch {
	case left <= 10*time.Minute:
		return "critical"
	case left <= 30*time.Minute:
		return "warning"
	default:
		return "calm"
	}
}

// size writes a number of bytes, as memory and images are counted.
func size(n int64) string {
	return inUnits(n, 1024, "B", "KiB", "MiB", "GiB", "TiB")
}

// storageSize writes a number of bytes as storage is sold: a GB is 10⁹ of them.
func storageSize(n int64) string {
	return inUnits(n, 1000, "B", "kB", "MB", "GB", "TB")
}

// inUnits writes n in the largest of the units, each of them times as large as the
// one before, that it has at least one of.
func inUnits(n int64, times float64, units ...string) string {
	f, u := float64(n), 0
	for f >= times && u < len(units)-1 {
		f, u = f/times, u+1
	}
	if f < 100 && f != math.Trunc(f) {
		return fmt.Sprintf("%.1f %s", f, units[u])
	}
	return fmt.Sprintf("%.0f %s", f, units[u])
}

// sentence makes a message, which begins small as errors do, a sentence of a page.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

func clock(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// count writes a number of things: 1 GPU, 2 GPUs.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// endings says for people why an instance ended.
var endings = map[string]string{
	scheduler.ReasonUser:     "it was terminated by a user",
	scheduler.ReasonExpired:  "its paid time was up",
	scheduler.ReasonExited:   "its container ended by itself",
	scheduler.ReasonImage:    "its image could not be pulled",
	scheduler.ReasonStart:    "its container could not be started",
	scheduler.ReasonWatchdog: "it was not running in time",
	scheduler.ReasonDepleted: "the account's money was used up",
}

func ending(reason string) string {
	if s, ok := endings[reason]; ok {
		return s
	}
	return reason
}
