package statement

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

var march = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func newStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	update(t, st, func(tx *store.Tx) error {
		for _, name := range []string{"alice", "bob"} {
			if _, err := identity.CreateAccount(tx, name, march); err != nil {
				return err
			}
		}
		return nil
	})
	return st
}

func update(t *testing.T, st *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := st.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// fill has money come in before March, n rows of Alice's in it, mixed with Bob's,
// and one after it. It gives how many of Alice's rows are March's.
func fill(t *testing.T, st *store.Store, n int) (rows int) {
	t.Helper()
	update(t, st, func(tx *store.Tx) error {
		for a := identity.AccountID(1); a <= 2; a++ {
			if _, err := ledger.Credit(tx, ledger.Entry{At: march.Add(-time.Second), Account: a, Amount: 1000 * ledger.Dollar}); err != nil {
				return err
			}
		}
		rows = 0
		for i := range n {
			at := march.Add(time.Duration(i) * time.Second)
			if i%10 == 3 {
				h, err := ledger.PlaceHold(tx, ledger.Entry{At: at, Account: 1, Amount: 40_000, Resource: "gpu-instance/1"}, ledger.HoldTerms{})
				if err != nil {
					return err
				}
				if _, err := ledger.SettleHold(tx, h.ID, ledger.GPUUsage, 30_000, ledger.Entry{At: at, Description: "GPUs"}); err != nil {
					return err
				}
				rows += 3
				continue
			}
			for a := identity.AccountID(1); a <= 2; a++ {
				_, err := ledger.Charge(tx, ledger.APIUsage, ledger.Entry{At: at, Account: a, Amount: 125, Tag: "=web", Usage: ledger.Usage{Model: "llama", InputTokens: 10}})
				if err != nil {
					return err
				}
			}
			rows++
		}
		_, err := ledger.Credit(tx, ledger.Entry{At: march.AddDate(0, 1, 0), Account: 1, Amount: ledger.Dollar, Description: "next month's"})
		return err
	})
	return rows
}

func ofMarch(t *testing.T, st *store.Store) *Statement {
	t.Helper()
	from, to := Month(march.Add(time.Hour))
	s, err := Open(t.Context(), st, 1, from, to, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpeningBalanceAndRowsMakeTheClosingBalance(t *testing.T) {
	for _, n := range []int{0, 1, runRows - 1, runRows, runRows + 1, readRows + 700} {
		t.Run(fmt.Sprint(n, " rows"), func(t *testing.T) {
			st := newStore(t)
			rows := fill(t, st, n)
			s := ofMarch(t, st)
			if s.Rows != int64(rows) || s.Opening != funds(1000*ledger.Dollar, 0) {
				t.Fatalf("%d rows, want %d; it begins with %+v", s.Rows, rows, s.Opening)
			}
			now, last, byType := s.Opening, int64(0), map[ledger.Type]Total{}
			for row, err := range s.All(t.Context(), st) {
				if err != nil {
					t.Fatal(err)
				}
				if row.Account != 1 || row.Seq <= last || row.At.Before(s.From) || !row.At.Before(s.To) {
					t.Fatalf("row %d, at %s, after row %d", row.Seq, row.At, last)
				}
				r := RowOf(row)
				last, now = row.Seq, funds(now.Available+r.AvailableChange, now.Held+r.HeldChange)
				if now != funds(r.BalanceAfter, r.HeldAfter) {
					t.Fatalf("row %d leaves %+v, the sum is %+v", row.Seq, r, now)
				}
				sum := byType[r.Type]
				byType[r.Type] = Total{r.Type, sum.Rows + 1, sum.Amount + r.Amount, sum.Available + r.AvailableChange, sum.Held + r.HeldChange}
				rows--
			}
			if now != s.Closing || rows != 0 || len(byType) != len(s.Totals) {
				t.Errorf("the rows make %+v, it ends with %+v; %d rows are missing", now, s.Closing, rows)
			}
			for _, total := range s.Totals {
				if byType[total.Type] != total {
					t.Errorf("%+v, the rows make %+v", total, byType[total.Type])
				}
			}
		})
	}
}

func TestRowsThatComeLaterAreNoPartOfAnOpenStatement(t *testing.T) {
	st := newStore(t)
	rows := fill(t, st, 30)
	s, err := Open(t.Context(), st, 1, march, march.AddDate(1, 0, 0), 0)
	if err != nil {
		t.Fatal(err)
	}
	update(t, st, func(tx *store.Tx) error {
		_, err := ledger.Credit(tx, ledger.Entry{At: march.AddDate(0, 2, 0), Account: 1, Amount: 1})
		return err
	})
	for _, err := range s.All(t.Context(), st) {
		if err != nil {
			t.Fatal(err)
		}
		rows--
	}
	if rows != -1 { // fill's own of April
		t.Errorf("%d rows are missing", rows+1)
	}
}

func TestAnAccountWithoutRowsHasAnEmptyStatement(t *testing.T) {
	st := newStore(t)
	s := ofMarch(t, st)
	if s.Rows != 0 || s.Opening != (Funds{}) || s.Closing != (Funds{}) {
		t.Errorf("%+v", s)
	}
	var out bytes.Buffer
	if err := s.WriteJSON(t.Context(), &out, st); err != nil || !strings.Contains(out.String(), `"rows":[]`) {
		t.Errorf("%s, %v", out.String(), err)
	}
}

func TestAStatementThatIsTooLargeIsRefused(t *testing.T) {
	st := newStore(t)
	rows := int64(fill(t, st, 50))
	if _, err := Open(t.Context(), st, 1, march, march.AddDate(0, 1, 0), rows); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), st, 1, march, march.AddDate(0, 1, 0), rows-1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(gone, st, 1, march, march.AddDate(0, 1, 0), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Both forms say the same.
func TestCSVAndJSONHaveTheRows(t *testing.T) {
	st := newStore(t)
	rows := fill(t, st, 40)
	s := ofMarch(t, st)
	var doc Document
	var out bytes.Buffer
	if err := s.WriteJSON(t.Context(), &out, st); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if len(doc.Rows) != rows || doc.Opening != s.Opening || doc.Closing != s.Closing || len(doc.Totals) != len(s.Totals) {
		t.Errorf("%+v", doc)
	}
	out.Reset()
	if err := s.WriteCSV(t.Context(), &out, st); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "\n") != strings.Count(out.String(), "\r\n") {
		t.Error("a line does not end with CRLF")
	}
	lines, err := csv.NewReader(&out).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1+1+rows+1+len(s.Totals) || strings.Join(lines[0], ",") != strings.Join(columns[:], ",") {
		t.Fatalf("%d lines, the first %q", len(lines), lines[0])
	}
	if got := strings.Join(lines[1], ","); got != "opening,,2026-03-01T00:00:00Z,,,,,1000.00,0.00,,,,,,,,,,,,,," {
		t.Errorf("opening: %s", got)
	}
	if got := strings.Join(lines[2], ","); got != "row,3,2026-03-01T00:00:00Z,api_usage,-0.000125,-0.000125,0.00,999.999875,0.00,,,,,'=web,,llama,10,,,,,," {
		t.Errorf("first row: %s", got)
	}
	if got := lines[len(lines)-1]; got[0] != "total" || got[3] != "refund" {
		t.Errorf("last line: %q", got)
	}
}

func TestTextsAreNoFormulas(t *testing.T) {
	for in, want := range map[string]string{
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t'=1", "\r=1": "'\r'=1", "＝1": "'＝1",
		// where semicolons or tabs stand between cells
		"x;=1": "x;'=1", "x;;@y": "x;;'@y", "a\tb\n-1": "a\tb\n'-1", "x; ＋1": "x;' ＋1", `x;"=1"`: `x;'"=1"`, "; x": "'; x", "a;b=c": "a;b=c",
		"": "", "invoice 7": "invoice 7", "a=b": "a=b", "'=1": "'=1", " x": " x",
	} {
		if got := Harmless(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
