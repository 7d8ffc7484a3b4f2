package books

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

var background = context.Background()

// shelf is a database with one account.
type shelf struct {
	*store.Store
	t   *testing.T
	log *slog.Logger
	out *lines
}

// lines is what was logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// with runs f with a shelf, in a bubble whose clock begins at a midnight.
func with(t *testing.T, f func(s shelf)) {
	synctest.Test(t, func(t *testing.T) {
		dir, err := os.MkdirTemp("", "books")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		st, err := store.Open(filepath.Join(dir, "ecolink.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		out := &lines{}
		s := shelf{st, t, slog.New(slog.NewTextHandler(out, nil)), out}
		s.update(func(tx *store.Tx) error { _, err := identity.CreateAccount(tx, "alice", time.Now()); return err })
		f(s)
	})
}

func (s shelf) update(fn func(*store.Tx) error) {
	s.t.Helper()
	if err := s.Update(background, fn); err != nil {
		s.t.Fatal(err)
	}
}

// add writes n rows.
func (s shelf) add(n int) {
	s.t.Helper()
	s.update(func(tx *store.Tx) error {
		for range n {
			if _, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: 1, Amount: 1}); err != nil {
				return err
			}
		}
		return nil
	})
}

// lie leaves a checkpoint that the rows up to it do not make.
func (s shelf) lie() {
	s.t.Helper()
	s.update(func(tx *store.Tx) error {
		r, err := ledger.Verify(tx)
		if err != nil {
			return err
		}
		r.LastHash[0]++
		return ledger.SetCheckpoint(tx, r, time.Now())
	})
}

func (s shelf) checkpoint() (c ledger.Checkpoint) {
	s.t.Helper()
	if err := s.View(func(tx *store.Tx) (err error) { c, _, err = ledger.Verified(tx); return err }); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// keep runs Keep until the function that it gives is called.
func (s shelf) keep() (stop func()) {
	ctx, cancel := context.WithCancel(background)
	done := make(chan error, 1)
	go func() { done <- Keep(ctx, s.Store, s.log) }()
	return func() {
		s.t.Helper()
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	}
}

func TestBooksThatAgreeAreMarkedAndTheNextStartGoesOnFromThere(t *testing.T) {
	with(t, func(s shelf) {
		s.add(300)
		for range 2 {
			if err := Check(background, s.Store, s.log); err != nil {
				t.Fatal(err)
			}
			if c := s.checkpoint(); c.Row != 300 || !c.FullAt.Equal(time.Now().UTC()) {
				t.Fatalf("%+v", c)
			}
		}
		if s.out.count("checked=300 ") != 1 || s.out.count("checked=0 ") != 1 {
			t.Error(s.out.text.String())
		}
	})
}

func TestBooksThatDisagreeStopTheStart(t *testing.T) {
	with(t, func(s shelf) {
		s.add(3)
		s.lie()
		s.add(1)
		err := Check(background, s.Store, s.log)
		var wrong *ledger.Disagreement
		if !errors.As(err, &wrong) || wrong.Seq != 4 || !strings.Contains(err.Error(), "restore the newest backup") {
			t.Fatal(err)
		}
	})
}

func TestCheckpointFollowsTheRows(t *testing.T) {
	with(t, func(s shelf) {
		s.add(1)
		if err := Check(background, s.Store, s.log); err != nil {
			t.Fatal(err)
		}
		defer s.keep()()
		at := s.checkpoint().At
		time.Sleep(checkpointAge + lookEvery)
		if c := s.checkpoint(); !c.At.Equal(at) {
			t.Errorf("moved without a row: %+v", c)
		}
		s.add(2)
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if c := s.checkpoint(); c.Row != 3 { // the last one is old
			t.Errorf("%+v", c)
		}
		s.add(2)
		time.Sleep(2 * lookEvery)
		if c := s.checkpoint(); c.Row != 3 {
			t.Errorf("moved too early: %+v", c)
		}
		s.add(checkpointRows)
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if c := s.checkpoint(); c.Row != 5+checkpointRows {
			t.Errorf("%+v", c)
		}
	})
}

func TestAllOfTheBooksAreVerifiedOnceANight(t *testing.T) {
	with(t, func(s shelf) {
		s.add(10)
		if err := Check(background, s.Store, s.log); err != nil {
			t.Fatal(err)
		}
		defer s.keep()()
		was := s.out.count("the books agree")
		time.Sleep(10 * 24 * time.Hour)
		synctest.Wait()
		if n := s.out.count("the books agree") - was; n < 9 || n > 10 {
			t.Errorf("verified %d times in ten days", n)
		}
		if at := s.checkpoint().FullAt.Local(); at.Hour() != fullHour {
			t.Errorf("verified at %s", at)
		}
	})
}

func TestDisagreementIsAnErrorInTheLogAndNotEveryMinute(t *testing.T) {
	with(t, func(s shelf) {
		s.add(3)
		s.lie()
		s.add(1)
		stop := s.keep()
		time.Sleep(2 * time.Hour)
		stop()
		if n := s.out.count("level=ERROR"); n < 1 || n > 2 {
			t.Errorf("%d errors: %s", n, s.out.text.String())
		}
	})
}
