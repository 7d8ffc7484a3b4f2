package registries

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/secrets"
	"ecolink/ledger/store"
)

type world struct {
	t    *testing.T
	dir  string
	st   *store.Store
	book *Book
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	var err error
	if w.st, err = store.Open(filepath.Join(w.dir, "ecolink.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.st.Close() })
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	keys, err := secrets.Open(filepath.Join(w.dir, "key"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.book = New(keys)
}

func (w *world) store(in Input) (r Record, err error) {
	w.t.Helper()
	err = w.st.Update(context.Background(), func(tx *store.Tx) (err error) { r, err = w.book.Store(tx, in, time.Now()); return err })
	return r, err
}

func (w *world) find(a identity.AccountID, host string) (l Login, ok bool, err error) {
	w.t.Helper()
	err = w.st.View(func(tx *store.Tx) (err error) { l, ok, err = w.book.Find(tx, a, host); return err })
	return l, ok, err
}

func TestPasswordIsNowhereInTheDatabase(t *testing.T) {
	w := newWorld(t)
	if _, err := w.store(Input{Account: 1, By: 1, Host: "ghcr.io", Username: "ana", Password: "a very secret password"}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(w.dir, "ecolink.db"))
	if err != nil || !strings.Contains(string(raw), "ghcr.io") || strings.Contains(string(raw), "very secret") {
		t.Errorf("it can be read there, or nothing can: %v", err)
	}
	l, ok, err := w.find(1, "ghcr.io")
	if err != nil || !ok || l.Password != "a very secret password" || l.Username != "ana" {
		t.Errorf("%v, %v, %v", l.Username, ok, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", l, l, l); strings.Contains(text, "very secret") {
		t.Errorf("it is printed: %s", text)
	}
}

func TestLogInIsOfItsAccountAndHostAlone(t *testing.T) {
	w := newWorld(t)
	r, err := w.store(Input{Account: 1, By: 1, Host: "ghcr.io", Username: "ana", Password: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		account identity.AccountID
		host    string
	}{{2, "ghcr.io"}, {1, "docker.io"}, {1, "evil.ghcr.io"}, {1, "ghcr.io:5000"}} {
		if _, ok, err := w.find(c.account, c.host); ok || err != nil {
			t.Errorf("account %d got it for %s: %v", c.account, c.host, err)
		}
	}
	// Not even a record that was copied to another account opens.
	err = w.st.Update(context.Background(), func(tx *store.Tx) error {
		r.Account, r.ID = 2, 99
		if err := records.Put(tx, r.ID, r); err != nil {
			return err
		}
		return byAccount.Put(tx, store.Pair{A: 2, B: 99}, struct{}{})
	})
	if err != nil {
		t.Fatal(err)
	}
	if l, ok, err := w.find(2, "ghcr.io"); err == nil {
		t.Errorf("got %v, %v", l, ok)
	}
}

func TestLostKeyFileIsToldInPlainWordsAndStoringAgainMendsIt(t *testing.T) {
	w := newWorld(t)
	in := Input{Account: 1, By: 1, Host: "ghcr.io", Username: "ana", Password: "x"}
	if _, err := w.store(in); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.dir, "key")); err != nil { // as after a restore
		t.Fatal(err)
	}
	w.open()
	_, _, err := w.find(1, "ghcr.io")
	var ours *identity.Error
	if !errors.As(err, &ours) || !strings.Contains(err.Error(), "store it again") || !strings.Contains(err.Error(), "key file") {
		t.Fatalf("got %v", err)
	}
	if err := w.st.View(func(tx *store.Tx) error {
		if n, err := w.book.Unreadable(tx); err != nil || n != 1 {
			t.Errorf("%d, %v", n, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store(in); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := w.find(1, "ghcr.io"); err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
}

func FuzzCleanHost(f *testing.F) {
	for _, s := range []string{"ghcr.io", "https://Registry.Example.org:5000/v2/", "[::1]:5000", "docker.io/library", "", "a b", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := CleanHost(s)
		if err != nil {
			if host != "" {
				t.Fatalf("%q with %v", host, err)
			}
			return
		}
		if again, err := CleanHost(host); err != nil || again != host {
			t.Fatalf("%q became %q and then %q, %v", s, host, again, err)
		}
	})
}
