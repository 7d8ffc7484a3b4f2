package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"ecolink/ledger"
)

// printer writes results as tables for people or as JSON for programs.
type printer struct {
	out  io.Writer
	json bool
}

// printing adds the -o flag to a command and gives its printer.
func printing(cmd *cobra.Command) func() (printer, error) {
	format := cmd.Flags().StringP("output", "o", "table", "table or json")
	return func() (printer, error) {
		if *format != "table" && *format != "json" {
			return printer{}, misuse("-o %s: choose table or json", *format)
		}
		return printer{out: cmd.OutOrStdout(), json: *format == "json"}, nil
	}
}

// asking makes cmd a command that asks the API and prints its answer: it adds the
// -o flag, and finds the log-in.
func asking(cmd *cobra.Command, run func(cmd *cobra.Command, args []string, c *client, p printer) error) {
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		c, err := newClient()
		if err != nil {
			return err
		}
		return run(cmd, args, c, p)
	}
}

// show prints v as JSON, or else what table writes.
func (p printer) show(v any, table func(w io.Writer)) error {
	if p.json {
		enc := json.NewEncoder(p.out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(p.out, 0, 8, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// line prints v as JSON on one line, for results that come one after the other.
func (p printer) line(v any) error {
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func row(w io.Writer, cells ...any) {
	words := make([]string, len(cells))
	for i, c := range cells {
		words[i] = printable(fmt.Sprint(c))
		if words[i] == "" {
			words[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(words, "\t"))
}

// printable keeps what others wrote from moving the cursor of who reads it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// record is a thing from the API, as this CLI understands it and as it came:
// `-o json` shows it as it came, with what a newer EcoLink has added.
type record[T any] struct {
	V   T
	raw json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *record[T]) UnmarshalJSON(b []byte) error {
	r.raw = append(json.RawMessage(nil), b...)
	return json.Unmarshal(b, &r.V)
}

// MarshalJSON implements json.Marshaler.
func (r record[T]) MarshalJSON() ([]byte, error) { return r.raw, nil }

// moment writes a time as people at this machine read it.
func moment(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// span writes how long something takes, in at most two units.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// byteSize writes a number of bytes in decimal units, as registries do.
func byteSize(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	size, name := float64(n)/unit, "kB"
	for _, larger := range []string{"MB", "GB", "TB"} {
		if size < unit {
			break
		}
		size, name = size/unit, larger
	}
	return fmt.Sprintf("%.1f %s", size, name)
}

// dollars writes an amount as the API gives it, "-5.00", or takes it, "-5", for
// people: -$5.00.
func dollars(amount string) string {
	if exact, err := ledger.ParseUSD(amount); err == nil {
		return exact.Dollars()
	}
	if rest, negative := strings.CutPrefix(amount, "-"); negative {
		return "-$" + rest
	}
	return "$" + amount
}

// count says how many of something there are: "1 row", "2 rows". one is the noun
// for a single one, whose plural has an s.
func count[N int | int64 | uint64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
