package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// soon fails the test when do hangs.
func soon(t *testing.T, what string, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatalf("%s hangs", what)
		return nil
	}
}

func TestFileCutShortUnderTheStoreEndsItWithoutHanging(t *testing.T) {
	for first, writes := range map[string]bool{"a reader notices": false, "the writer notices": true} {
		t.Run(first, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ecolink.db")
			s := open(t, path)
			if err := s.Update(context.Background(), write(7, "seven")); err != nil {
				t.Fatal(err)
			}
			reading, ended := make(chan struct{}), make(chan struct{})
			_, result := looking(s, func(*Tx) error { close(reading); <-ended; return nil })
			<-reading
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
			view := func() error { return s.View(func(*Tx) error { return nil }) }
			update := func() error { return s.Update(context.Background(), write(8, "eight")) }
			ways := []func() error{view, update}
			if writes {
				ways = []func() error{update, view}
			}
			for n, do := range append(ways, ways...) {
				if err := soon(t, "the store", do); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "restarted") {
					t.Errorf("call %d: %v", n, err)
				}
			}
			close(ended)
			if err := soon(t, "a reader that began before", func() error { return <-result }); err != nil {
				t.Error(err)
			}
			if err := soon(t, "Close", s.Close); err != nil {
				t.Error(err)
			}
			if _, err := Open(path); errors.Is(err, ErrLocked) {
				t.Error("the file is still locked")
			}
		})
	}
}

func TestFileCutShortUnderLoadLeavesNobodyWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ecolink.db")
	s := open(t, path)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for k := int64(0); ; k++ {
				err := s.Update(context.Background(), write(k, "x"))
				if n%2 == 0 {
					err = s.View(func(tx *Tx) error { _, _, err := notes.Get(tx, k); return err })
				}
				if err != nil {
					return
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	_ = soon(t, "a caller", func() error { wg.Wait(); return nil })
	_ = soon(t, "Close", s.Close)
}

func TestViewAfterCloseSaysSo(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "ecolink.db"))
	s.Close()
	if err := s.View(func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

// A power cut may leave anything of an unfinished database.
func TestUnfinishedDatabaseIsMadeAnewWhateverIsInIt(t *testing.T) {
	page := int64(os.Getpagesize())
	for what, spoil := range map[string]func(f *os.File) error{
		"its freelist is lost": func(f *os.File) error { _, err := f.WriteAt(make([]byte, page), 2*page); return err },
		"its root is lost":     func(f *os.File) error { _, err := f.WriteAt(make([]byte, page), 3*page); return err },
		"its metas are lost":   func(f *os.File) error { _, err := f.WriteAt(make([]byte, 2*page), 0); return err },
		"it is cut short":      func(f *os.File) error { return f.Truncate(page + 100) },
		"it is empty":          func(f *os.File) error { return f.Truncate(0) },
		"it is whole":          func(*os.File) error { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ecolink.db")
			db, err := bbolt.Open(path+unfinished, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			db.Close()
			f, err := os.OpenFile(path+unfinished, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(spoil(f), f.Close()); err != nil {
				t.Fatal(err)
			}
			s := open(t, path)
			defer s.Close()
			if err := s.Update(context.Background(), write(1, "x")); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path + unfinished); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
}

func TestProcessesThatCreateTheDatabaseAtOnceGetTheSameOne(t *testing.T) {
	for range 5 {
		path := filepath.Join(t.TempDir(), "ecolink.db")
		var wg sync.WaitGroup
		for n := range int64(4) {
			wg.Go(func() {
				s, err := Open(path)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				if err := s.Update(context.Background(), write(n, "x")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s := open(t, path)
		for n := range int64(4) {
			if _, ok := get(t, s, n); !ok {
				t.Errorf("the record of process %d is lost", n)
			}
		}
		s.Close()
	}
}

// Whoever waits for the lock of a database that is being made may get that of the
// finished one, which has its name by then.
func TestDatabaseThatWasFinishedMeanwhileIsNotEmptied(t *testing.T) {
	for what, others := range map[string]func(path string) error{
		"it has its name":                       func(path string) error { return os.Rename(path+unfinished, path) },
		"it was finished before this one began": func(path string) error { return os.WriteFile(path, []byte("money"), 0o600) },
		"its name was given and lost":           func(path string) error { return os.Rename(path+unfinished, path+".elsewhere") },
		"another process began once more": func(path string) error {
			return errors.Join(os.Rename(path+unfinished, path+".elsewhere"), os.WriteFile(path+unfinished, nil, 0o600))
		},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ecolink.db")
			f, err := os.Create(path + unfinished)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString("money"); err != nil {
				t.Fatal(err)
			}
			if err := others(path); err != nil {
				t.Fatal(err)
			}
			if err := emptied(f, path+unfinished, path); !errors.Is(err, errMade) {
				t.Errorf("got %v", err)
			}
			if info, err := f.Stat(); err != nil || info.Size() == 0 {
				t.Errorf("it was emptied: %v", err)
			}
		})
	}
}

func TestFoldersOfTheDatabaseAreMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, filepath.Join(dir, "ecolink.db"))
	defer s.Close()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info, err)
	}
}
