package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// spender charges accounts of an open database and knows what they must have.
type spender struct {
	t     *testing.T
	store *store.Store
	path  string
	spent [4]atomic.Int64 // by account, from 1
	n     atomic.Int64
}

func newSpender(t *testing.T, path string) *spender {
	t.Helper()
	sp := &spender{t: t, path: path}
	sp.open()
	t.Cleanup(func() { sp.store.Close() })
	err := sp.store.Update(context.Background(), func(tx *store.Tx) error {
		for a := range identity.AccountID(len(sp.spent)) {
			if a == 0 {
				continue
			}
			if _, err := identity.CreateAccount(tx, fmt.Sprint("account ", a), time.Now()); err != nil {
				return err
			}
			if _, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: a, Amount: rich}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sp
}

func (sp *spender) open() {
	sp.t.Helper()
	var err error
	if sp.store, err = store.Open(sp.path); err != nil {
		sp.t.Fatal(err)
	}
}

func (sp *spender) reopen() {
	sp.t.Helper()
	if err := sp.store.Close(); err != nil {
		sp.t.Logf("close: %v", err) // the disk has failed
	}
	sp.open()
}

// charge makes one charge, with a text that fills the disk.
func (sp *spender) charge() error {
	n := sp.n.Add(1)
	a := 1 + n%int64(len(sp.spent)-1)
	err := sp.store.Update(context.Background(), func(tx *store.Tx) error {
		_, err := ledger.Charge(tx, ledger.APIUsage, ledger.Entry{
			At: time.Now(), Account: identity.AccountID(a), Amount: ledger.MicroUSD(n),
			Key: fmt.Sprintf("%016x", n), Description: strings.Repeat("x", 900),
		})
		return err
	})
	if err == nil {
		sp.spent[a].Add(n)
	}
	return err
}

// spend has many make charges until one fails for each, and gives the errors. It
// gives up after so many charges.
func (sp *spender) spend(limit int64) (made int64, failed []error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	var count atomic.Int64
	for range 16 {
		all.Go(func() {
			for count.Add(1) <= limit {
				if err := sp.charge(); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, err)
					return
				}
				atomic.AddInt64(&made, 1)
			}
		})
	}
	all.Wait()
	return made, failed
}

// check reads all wallets and verifies the books.
func (sp *spender) check() {
	sp.t.Helper()
	err := sp.store.View(func(tx *store.Tx) error {
		for a := 1; a < len(sp.spent); a++ {
			w, err := ledger.WalletOf(tx, identity.AccountID(a))
			if err != nil {
				return err
			}
			if want := rich - ledger.MicroUSD(sp.spent[a].Load()); w.Available != want {
				return fmt.Errorf("account %d has %s, want %s", a, w.Available, want)
			}
		}
		_, err := ledger.Verify(tx)
		return err
	})
	if err != nil {
		sp.t.Fatal(err)
	}
}

func TestFullDiskRefusesChargesAndGoesOnWhenThereIsRoom(t *testing.T) {
	for name, dir := range map[string]func(t *testing.T) string{
		"ext4":  func(t *testing.T) string { return newDisk(t, 24).dir },
		"tmpfs": func(t *testing.T) string { return memory(t, 16) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := dir(t)
			sp := newSpender(t, filepath.Join(dir, "ecolink.db"))
			ballast := filepath.Join(dir, "ballast")
			var made, refused int64
			reopened, rounds := 0, times(3, 20)
			for round := range rounds {
				fillUp(t, ballast)
				n, errs := sp.spend(100_000)
				if len(errs) == 0 {
					t.Fatalf("round %d: the disk is full and %d charges were made", round, n)
				}
				for _, err := range errs {
					if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "make room") && !errors.Is(err, store.ErrBroken) {
						t.Fatalf("round %d: %v", round, err)
					}
				}
				made, refused = made+n, refused+int64(len(errs))
				sp.check()
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
				if err := sp.charge(); errors.Is(err, store.ErrBroken) {
					reopened++
					sp.reopen()
				} else if err != nil {
					t.Fatalf("round %d: with room again: %v", round, err)
				}
				n, errs = sp.spend(200)
				if len(errs) > 0 {
					t.Fatalf("round %d: with room again: %v", round, errs[0])
				}
				made += n
				sp.check()
				sp.reopen()
				sp.check()
			}
			t.Logf("the disk was full %d times: %d charges were made and %d refused; the store had to be opened anew %d times", rounds, made, refused, reopened)
		})
	}
}

// fillUp takes all but a little of the room that is left.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		err = f.Truncate(max(0, info.Size()-256<<10)) // the first charges find room
	}
	if err := errors.Join(err, f.Sync()); err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// disks that fail under an open database, each in its way.
var failingDisks = map[string]func(*disk){
	"that became read-only": func(d *disk) { d.abort() },
	"that fails":            func(d *disk) { d.cut() },
}

func TestFailedDiskAcknowledgesNothingAndLosesNothing(t *testing.T) {
	for name, fail := range failingDisks {
		t.Run("a disk "+name, func(t *testing.T) {
			d := newDisk(t, 64)
			sp := newSpender(t, filepath.Join(d.dir, "ecolink.db"))
			if _, errs := sp.spend(300); len(errs) > 0 {
				t.Fatal(errs[0])
			}
			fail(d)
			made, errs := sp.spend(1000)
			if made > 0 || len(errs) == 0 {
				t.Fatalf("%d charges were acknowledged on a disk %s", made, name)
			}
			for _, err := range errs {
				if !errors.Is(err, store.ErrBroken) && !errors.Is(err, unix.EROFS) {
					t.Fatal(err)
				}
			}
			t.Logf("said to the first: %v", errs[0])
			sp.check() // from memory
			if err := sp.store.Close(); err != nil {
				t.Logf("close: %v", err)
			}
			d.again()
			sp.open()
			sp.check()
			if made, errs := sp.spend(100); len(errs) > 0 {
				t.Fatalf("after %d charges on the mended disk: %v", made, errs[0])
			}
			sp.check()
		})
	}
}

// A sync that fails once must stop the store for good: the kernel may have
// dropped the pages, and the next sync says yes without them.
func TestSyncThatFailsStopsTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ecolink.db")
	runs := times(3, 20)
	b := newBooks()
	broken := 0
	for n := range runs {
		p := startWork(t, job{Path: path, Run: n, Workers: 8, Syncs: syncsFail})
		if !p.listen(10*time.Second, failing) {
			t.Fatal("the process ended too early")
		}
		p.listen(100*time.Millisecond, "")
		lines := p.kill()
		for _, l := range failures(lines) {
			if !strings.Contains(l.Error, store.ErrBroken.Error()) {
				t.Fatalf("an update on a disk that fails: %s", l.Error)
			}
			broken++
		}
		if err := reopen(b, path, lines, false); err != nil {
			t.Fatalf("run %d: %v", n, err)
		}
	}
	t.Logf("%d failed disks, %d updates were told so: %s", runs, broken, b.checked)
	if broken < runs {
		t.Errorf("only %d updates failed", broken)
	}
}

func TestDatabaseOnAReadOnlyDiskIsRefusedClearly(t *testing.T) {
	d := newDisk(t, 64)
	sp := newSpender(t, filepath.Join(d.dir, "ecolink.db"))
	if err := sp.store.Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		if err := unix.Mount(d.device.Name(), d.dir, "ext4", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	if s, err := store.Open(sp.path); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), sp.path) {
		if err == nil {
			s.Close()
		}
		t.Errorf("open on a read-only disk: %v", err)
	}
	remount(0)
	sp.open()
	if err := sp.charge(); err != nil {
		t.Fatal(err)
	}
	sp.check()
}
