package lease

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

const (
	alice identity.AccountID = 1
	bob   identity.AccountID = 2
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimVariable); dir != "" {
		beVictim(dir)
	}
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("20") // each makes databases on a real disk
	}
	os.Exit(m.Run())
}

// world is a database and a Spender over it. The accounts 1 to 3 have no money.
type world struct {
	testing.TB
	folder string
	logs   string
	store  *store.Store
	*Spender
	found  Recovered
	config Config
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newWorld(t testing.TB, config Config) *world {
	t.Helper()
	folder := t.TempDir()
	config.Log = quietLog()
	w := &world{TB: t, folder: folder, logs: filepath.Join(folder, "charges"), config: config}
	w.openStore()
	w.update(func(tx *store.Tx) error {
		for n := range 3 {
			if _, err := identity.CreateAccount(tx, fmt.Sprint("account ", n+1), time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	w.open()
	t.Cleanup(func() {
		if w.Spender != nil {
			w.Spender.Close()
		}
		if w.store != nil {
			w.store.Close()
		}
	})
	return w
}

func (w *world) openStore() {
	w.Helper()
	st, err := store.Open(filepath.Join(w.folder, "ecolink.db"))
	if err != nil {
		w.Fatal(err)
	}
	w.store = st
}

func (w *world) open() {
	w.Helper()
	s, found, err := Open(context.Background(), w.store, w.logs, w.config)
	if err != nil {
		w.Fatal(err)
	}
	w.Spender, w.found = s, found
}

func (w *world) close() {
	w.Helper()
	s := w.Spender
	w.Spender = nil
	if err := s.Close(); err != nil {
		w.Fatal(err)
	}
}

// end closes everything, for tests whose time must not outlive them.
func (w *world) end() {
	w.Helper()
	w.close()
	st := w.store
	w.store = nil
	if err := st.Close(); err != nil {
		w.Fatal(err)
	}
}

func (w *world) update(fn func(*store.Tx) error) {
	w.Helper()
	if err := w.store.Update(context.Background(), fn); err != nil {
		w.Fatal(err)
	}
}

func (w *world) credit(a identity.AccountID, amount ledger.MicroUSD) {
	w.Helper()
	w.update(func(tx *store.Tx) error {
		_, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: a, Amount: amount})
		return err
	})
}

func (w *world) wallet(a identity.AccountID) (out ledger.Wallet) {
	w.Helper()
	err := w.store.View(func(tx *store.Tx) (err error) { out, err = ledger.WalletOf(tx, a); return err })
	if err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *world) reserve(a identity.AccountID, key identity.KeyID, amount ledger.MicroUSD) *Reservation {
	w.Helper()
	r, err := w.Reserve(context.Background(), a, key, amount)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// spend reserves and charges the same amount.
func (w *world) spend(a identity.AccountID, amount ledger.MicroUSD, request string) {
	w.Helper()
	if err := w.reserve(a, 0, amount).Charge(charge(amount, request)); err != nil {
		w.Fatal(err)
	}
}

func charge(amount ledger.MicroUSD, request string) ledger.Entry {
	return ledger.Entry{
		At: time.Now(), Amount: amount, Resource: "model/llama", RequestID: request, Tag: "web",
		Usage: ledger.Usage{Model: "llama", InputTokens: 100, OutputTokens: 200},
	}
}

func (w *world) flush() {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := w.Flush(ctx); err != nil {
		w.Fatal(err)
	}
}

// verify checks the books and the leases, and gives the api_usage rows.
func (w *world) verify() (rows []ledger.Transfer) {
	w.Helper()
	err := w.store.View(func(tx *store.Tx) error {
		if _, err := ledger.Verify(tx); err != nil {
			return err
		}
		if _, err := Audit(tx, ""); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	for _, t := range w.rows() {
		if t.Type == ledger.APIUsage {
			rows = append(rows, t)
		}
	}
	return rows
}

func (w *world) rows() (rows []ledger.Transfer) {
	w.Helper()
	err := w.store.View(func(tx *store.Tx) error {
		for t, err := range ledger.Rows(tx, 1) {
			if err != nil {
				return err
			}
			rows = append(rows, t)
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return rows
}

// requests counts rows by request id.
func requests(rows []ledger.Transfer) map[string]int {
	out := map[string]int{}
	for _, t := range rows {
		out[t.RequestID]++
	}
	return out
}

func (w *world) unbilled(a identity.AccountID) (u Unbilled) {
	w.Helper()
	err := w.store.View(func(tx *store.Tx) (err error) { u, err = UnbilledOf(tx, a); return err })
	if err != nil {
		w.Fatal(err)
	}
	return u
}

func (w *world) stuck() (out []StuckCharge) {
	w.Helper()
	err := w.store.View(func(tx *store.Tx) (err error) { out, _, err = StuckCharges(tx); return err })
	if err != nil {
		w.Fatal(err)
	}
	return out
}
