package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// later is when everything that the tests write may be archived.
var later = noon.AddDate(0, 0, 90)

// archiveAll archives with small files and small commits, so that there are several.
func archiveAll(ctx context.Context, s *store.Store, before time.Time) (ArchiveReport, error) {
	a := archiver{st: s, maxRows: 200, maxPages: 2}
	return a.run(ctx, before, later)
}

func mustArchive(t testing.TB, s *store.Store, before time.Time) ArchiveReport {
	t.Helper()
	r, err := archiveAll(context.Background(), s, before)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// contents is all that can be read of the journal.
type contents struct {
	rows       []Transfer
	byNumber   []Transfer
	statements [3][]Transfer
	parts      [3][]Transfer // of statements, that begin in the middle
	report     Report
}

func read(s *store.Store) (c contents, err error) {
	err = s.View(func(tx *store.Tx) error {
		for row, err := range Rows(tx, 1) {
			if err != nil {
				return err
			}
			c.rows = append(c.rows, row)
		}
		for n := len(c.rows); n > 0; n -= 7 {
			row, err := rowAt(tx, int64(n))
			if err != nil {
				return err
			}
			c.byNumber = append(c.byNumber, row)
		}
		for n := range c.statements {
			for row, err := range Statement(tx, identity.AccountID(n+1), 0) {
				if err != nil {
					return err
				}
				c.statements[n] = append(c.statements[n], row)
			}
			middle := c.rows[len(c.rows)/2]
			for row, err := range StatementUntil(tx, identity.AccountID(n+1), middle.At) {
				if err != nil {
					return err
				}
				c.parts[n] = append(c.parts[n], row)
			}
		}
		c.report, err = Verify(tx)
		return err
	})
	c.report.Archived = 0
	return c, err
}

func mustRead(t testing.TB, s *store.Store) contents {
	t.Helper()
	c, err := read(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c contents) same(o contents) error {
	if c.report != o.report {
		return fmt.Errorf("verified as %+v, and before as %+v", c.report, o.report)
	}
	same := slices.Equal(c.rows, o.rows) && slices.Equal(c.byNumber, o.byNumber)
	for n := range c.statements {
		same = same && slices.Equal(c.statements[n], o.statements[n]) && slices.Equal(c.parts[n], o.parts[n])
	}
	if !same {
		return errors.New("rows are not what they were before")
	}
	return nil
}

// spend has the accounts pay n times, a second apart, from the given time on.
func spend(t testing.TB, s *store.Store, from time.Time, n int, account func(n int) identity.AccountID) {
	t.Helper()
	update(t, s, func(tx *store.Tx) error {
		for a := identity.AccountID(1); a <= 3; a++ {
			if _, err := Credit(tx, Entry{At: from, Account: a, Amount: usd("10")}); err != nil {
				return err
			}
		}
		for i := range n {
			at := from.Add(time.Duration(i) * time.Second)
			e := Entry{At: at, Account: account(i), Amount: 125, Key: fmt.Sprint("key ", at.UnixNano(), i), RequestID: fmt.Sprint("request ", i), Usage: Usage{Model: "llama", InputTokens: int64(i)}}
			if _, err := Charge(tx, InferenceUsage, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func alternating(n int) identity.AccountID { return identity.AccountID(n%3 + 1) }

func TestArchivedRowsReadAsBefore(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
		if err != nil {
			r.Fatal(err)
		}
		defer s.Close()
		addAccounts(t, s)
		at := noon
		for range rapid.IntRange(1, 2).Draw(r, "rounds") {
			n := rapid.IntRange(1, 400).Draw(r, "rows")
			lot := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "accounts"), 1))
			spend(t, s, at, n, func(int) identity.AccountID { return identity.AccountID(1 + lot.IntN(3)) })
			at = at.Add(time.Duration(n) * time.Second)
			want := mustRead(t, s)
			before := noon.Add(time.Duration(rapid.Int64Range(0, int64(at.Sub(noon))).Draw(r, "before")))
			made := mustArchive(t, s, before)
			if err := mustRead(t, s).same(want); err != nil {
				r.Fatal(err)
			}
			for _, row := range want.rows[made.Through-made.Rows : made.Through] {
				if !row.At.Before(before) {
					r.Fatalf("row %d of %s is archived, which was to be what is before %s", row.Seq, row.At, before)
				}
			}
		}
	})
}

func TestArchivedKeyIsForgottenAndAllOthersAreNot(t *testing.T) {
	s := newStore(t)
	fill(t, s, 700)
	made := mustArchive(t, s, later.Add(-MinArchiveAge))
	if made.Rows != made.Through || made.Rows < 600 || len(made.Files) < 3 {
		t.Fatalf("%+v", made)
	}
	t.Logf("%.1f bytes a row in archives", float64(made.Bytes)/float64(made.Rows))
	for _, n := range []int{0, 699} {
		update(t, s, func(tx *store.Tx) error {
			row, err := Charge(tx, APIUsage, Entry{
				At: later, Account: alice, Amount: 125, Resource: "model/llama",
				Key: fmt.Sprint("row ", n), Tag: "web", Usage: Usage{Model: "llama", InputTokens: 10, OutputTokens: 20},
			})
			if err == nil && row.At.Equal(later) != (n == 0) {
				t.Errorf("key of row %d: %+v", n, row)
			}
			return err
		})
	}
	if _, err := verify(s); err != nil {
		t.Fatal(err)
	}
}

func TestRowsThatAreTooNewAreNotArchived(t *testing.T) {
	s := newStore(t)
	var young *ArchiveAgeError
	if _, err := Archive(context.Background(), s, later.Add(-MinArchiveAge+1), later); !errors.As(err, &young) {
		t.Fatalf("got %v", err)
	}
}

func TestChargesGoOnWhileRowsAreArchived(t *testing.T) {
	s := newStore(t)
	spend(t, s, noon, 2000, alternating)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			update(t, s, func(tx *store.Tx) error {
				_, err := Charge(tx, APIUsage, Entry{At: later, Account: alice, Amount: 1, Key: fmt.Sprint("later ", n)})
				return err
			})
		}
	})
	made := mustArchive(t, s, later.Add(-MinArchiveAge))
	close(stop)
	wg.Wait()
	r, err := verify(s)
	if err != nil || r.Archived != made.Rows || made.Rows < 1900 {
		t.Fatalf("%+v, %+v, %v", r, made, err)
	}
}

func TestTwoDoNotArchiveAtOnce(t *testing.T) {
	s := newStore(t)
	lock, err := lockFolder(filepath.Join(filepath.Dir(s.Path()), ArchiveFolder))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archiveAll(context.Background(), s, noon); !errors.Is(err, ErrArchiving) {
		t.Fatalf("got %v", err)
	}
	lock.Close()
	mustArchive(t, s, noon)
}

// crashes is a context that copies the data folder whenever it is asked whether
// it has ended: what a crash at that point would leave.
type crashes struct {
	context.Context
	t      testing.TB
	folder string
	images []string
}

func (c *crashes) Err() error {
	image := filepath.Join(c.t.TempDir(), "image")
	if err := os.CopyFS(image, os.DirFS(c.folder)); err != nil {
		c.t.Error(err)
	}
	c.images = append(c.images, image)
	return nil
}

func TestCrashWhileArchivingLosesNothingAndTheNextRunGoesOn(t *testing.T) {
	s := newStore(t)
	spend(t, s, noon, 400, alternating)
	want := mustRead(t, s)
	c := &crashes{Context: context.Background(), t: t, folder: filepath.Dir(s.Path())}
	made, err := archiveAll(c, s, later.Add(-MinArchiveAge))
	if err != nil || len(c.images) < 15 {
		t.Fatalf("%d images, %v", len(c.images), err)
	}
	for n, image := range c.images {
		after, err := store.Open(filepath.Join(image, "ecolink.db"))
		if err != nil {
			t.Fatal(err)
		}
		if err := mustRead(t, after).same(want); err != nil {
			t.Fatalf("crash %d: %v", n, err)
		}
		mustArchive(t, after, later.Add(-MinArchiveAge))
		if err := mustRead(t, after).same(want); err != nil {
			t.Fatalf("crash %d, archived: %v", n, err)
		}
		var known []string
		err = after.View(func(tx *store.Tx) error {
			all, err := Archives(tx)
			for _, f := range all {
				known = append(known, f.Name)
			}
			if err == nil && all[len(all)-1].Last != made.Through {
				t.Errorf("crash %d: archived up to row %d, want %d", n, all[len(all)-1].Last, made.Through)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if found := names(t, filepath.Join(image, ArchiveFolder)); !slices.Equal(found, known) {
			t.Errorf("crash %d: there are %v, and should be %v", n, found, known)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d crashes", len(c.images))
}

func names(t testing.TB, dir string) (out []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		out = append(out, e.Name())
	}
	return out
}

// stopsAfter is a context that ends after it was asked a number of times.
type stopsAfter struct {
	context.Context
	left int
}

func (c *stopsAfter) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestArchivingThatIsCancelledLeavesBooksThatAgree(t *testing.T) {
	s := newStore(t)
	spend(t, s, noon, 700, alternating)
	want := mustRead(t, s)
	for n := 0; ; n++ {
		_, err := archiveAll(&stopsAfter{context.Background(), n}, s, later.Add(-MinArchiveAge))
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || n > 100 {
			t.Fatalf("%d: %v", n, err)
		}
		if err := mustRead(t, s).same(want); err != nil {
			t.Fatalf("cancelled at %d: %v", n, err)
		}
		if slices.Contains(names(t, filepath.Join(filepath.Dir(s.Path()), ArchiveFolder)), archiveAside) {
			t.Fatalf("cancelled at %d: an unfinished file was left", n)
		}
	}
}

// newArchived is a store with archives, and their files.
func newArchived(t testing.TB) (s *store.Store, files []string) {
	t.Helper()
	s = newStore(t)
	spend(t, s, noon, 700, alternating)
	made := mustArchive(t, s, later.Add(-MinArchiveAge))
	for _, f := range made.Files {
		files = append(files, filepath.Join(filepath.Dir(s.Path()), ArchiveFolder, f.Name))
	}
	return s, files
}

// found wants Verify to find something that names the file.
func found(s *store.Store, file string) error {
	_, err := verify(s)
	var wrong *Disagreement
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), file) {
		return fmt.Errorf("Verify says: %v", err)
	}
	return nil
}

func TestEveryFlippedByteOfAnArchiveIsFound(t *testing.T) {
	s, files := newArchived(t)
	whole, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	step := 37
	if testing.Short() {
		step = 997
	}
	for n := 0; n < len(whole); n += step {
		damaged := bytes.Clone(whole)
		damaged[n] ^= 0x40
		write(t, files[1], damaged)
		if err := found(s, files[1]); err != nil {
			t.Fatalf("byte %d: %v", n, err)
		}
	}
	for _, size := range []int{0, 1, archiveHeader, len(whole) - 1} {
		write(t, files[1], whole[:size])
		if err := found(s, files[1]); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	write(t, files[1], append(bytes.Clone(whole), 0))
	if err := found(s, files[1]); err != nil {
		t.Fatalf("a byte more: %v", err)
	}
	write(t, files[1], whole)
	if _, err := verify(s); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMissingArchiveIsNamedAndMoneyStillMoves(t *testing.T) {
	s, files := newArchived(t)
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if err := found(s, files[0]); err != nil {
		t.Fatal(err)
	}
	err := s.View(func(tx *store.Tx) error { _, err := rowAt(tx, 5); return err })
	var lost *ArchiveError
	if !errors.As(err, &lost) || lost.Path != files[0] || !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	spend(t, s, later, 3, alternating)
	if w := moneyOf(t, s, alice); w.Available < usd("19") {
		t.Fatalf("%+v", w)
	}
	err = s.View(func(tx *store.Tx) error {
		if _, err := rowAt(tx, lost.Last+1); err != nil {
			return err
		}
		for _, err := range Statement(tx, alice, 0) {
			return err
		}
		return io.ErrUnexpectedEOF
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestArchiveInThePlaceOfAnotherIsFound(t *testing.T) {
	s, files := newArchived(t)
	first, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	write(t, files[1], first)
	if err := found(s, files[1]); err != nil {
		t.Fatal(err)
	}
}

// A forger who makes all checksums and hashes of the archive anew, and those of
// its record too, is betrayed by the row that follows.
func TestForgedArchiveWithItsRecordIsFound(t *testing.T) {
	s, files := newArchived(t)
	folder := filepath.Dir(files[0])
	var rec ArchiveFile
	update(t, s, func(tx *store.Tx) error {
		var rows []Transfer
		for row, err := range Rows(tx, 1) {
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		all, err := Archives(tx)
		if err != nil {
			return err
		}
		rec = all[len(all)-1]
		rows = rows[rec.First-1 : rec.Last]
		rows[len(rows)-1].Description = "forged" // in the last row: nothing follows in the file
		w, err := newArchiveWriter(folder, rec.First, rec.Before)
		if err != nil {
			return err
		}
		h := rec.Before
		for n := range rows {
			raw := appendRow(nil, &rows[n])
			h = h.sum(raw)
			if err := w.page(appendFramed(nil, raw, h)); err != nil {
				return err
			}
		}
		if err := errors.Join(w.finish(), w.publish()); err != nil {
			return err
		}
		return archives.Put(tx, rec.First, w.ArchiveFile)
	})
	_, err := verify(s)
	var wrong *Disagreement
	if !errors.As(err, &wrong) || wrong.Seq != rec.Last+1 {
		t.Fatalf("got %v", err)
	}
}
