package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

const ana identity.AccountID = 1

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, dir string) *store.Store {
	t.Helper()
	st, err := store.Open(filepath.Join(dir, "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func update(t testing.TB, st *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := st.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// newBox has an account with money, charges, and some of them in an archive.
func newBox(t testing.TB) *store.Store {
	t.Helper()
	st := open(t, t.TempDir())
	update(t, st, func(tx *store.Tx) error {
		if _, err := identity.CreateAccount(tx, "ana", noon); err != nil {
			return err
		}
		if _, err := ledger.Credit(tx, ledger.Entry{At: noon, Account: ana, Amount: 1000 * ledger.Dollar}); err != nil {
			return err
		}
		for n := range 300 {
			if err := charge(tx, noon.Add(time.Duration(n)*time.Second), fmt.Sprint("charge ", n)); err != nil {
				return err
			}
		}
		return nil
	})
	now := noon.Add(ledger.MinArchiveAge + time.Hour)
	if r, err := ledger.Archive(context.Background(), st, noon.Add(2*time.Minute), now); err != nil || r.Rows == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	return st
}

func charge(tx *store.Tx, at time.Time, key string) error {
	_, err := ledger.Charge(tx, ledger.InferenceUsage, ledger.Entry{At: at, Account: ana, Amount: 125, Key: key})
	return err
}

func take(t testing.TB, st *store.Store) ([]byte, Manifest) {
	t.Helper()
	var out bytes.Buffer
	m, err := Write(context.Background(), st, &out, "v1", noon)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), m
}

func rows(t testing.TB, st *store.Store) (out []ledger.Transfer) {
	t.Helper()
	err := st.View(func(tx *store.Tx) error {
		for row, err := range ledger.Rows(tx, 1) {
			if err != nil {
				return err
			}
			out = append(out, row)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRestoredBoxHasTheSameBooks(t *testing.T) {
	st := newBox(t)
	file, m := take(t, st)
	want := rows(t, st)
	if last := want[len(want)-1]; m.Row != last.Seq || m.Hash != last.Hash || m.EcoLink != "v1" || !m.TakenAt.Equal(noon) || len(m.Parts) != 2 {
		t.Fatalf("%+v", m)
	}
	temp := t.TempDir()
	checked, err := VerifyFile(t.Context(), bytes.NewReader(file), temp)
	if err != nil || checked.Books.Rows != m.Row || checked.Books.Archived == 0 {
		t.Fatalf("%+v, %v", checked, err)
	}
	nothingIn(t, temp)
	dir := filepath.Join(t.TempDir(), "new")
	restored, err := Restore(t.Context(), bytes.NewReader(file), dir)
	if err != nil || restored.Books != checked.Books {
		t.Fatalf("%+v, %v", restored, err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"ecolink.db", ledger.ArchiveFolder}) {
		t.Errorf("restored: %v", got)
	}
	again := open(t, dir)
	if got := rows(t, again); !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
	update(t, again, func(tx *store.Tx) error { return charge(tx, noon.AddDate(0, 2, 0), "after") })
}

func names(t testing.TB, dir string) (out []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range all {
		out = append(out, e.Name())
	}
	return out
}

func nothingIn(t testing.TB, dir string) {
	t.Helper()
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Whoever was told of their charge before the backup began finds it in there.
func TestBackupWhileChargesRunHasAllThatWereAcknowledged(t *testing.T) {
	st := newBox(t)
	var done [4]atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for worker := range done {
		wg.Go(func() {
			for n := int64(0); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				update(t, st, func(tx *store.Tx) error {
					return charge(tx, noon.Add(time.Hour), fmt.Sprintf("worker %d, %d", worker, n))
				})
				done[worker].Store(n + 1)
			}
		})
	}
	for range 3 {
		time.Sleep(20 * time.Millisecond)
		var acknowledged [len(done)]int64
		for n := range done {
			acknowledged[n] = done[n].Load()
		}
		file, _ := take(t, st)
		dir := t.TempDir()
		if _, err := Restore(t.Context(), bytes.NewReader(file), dir); err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, row := range rows(t, open(t, dir)) {
			found[row.Key] = true
		}
		for worker, count := range acknowledged {
			if count == 0 {
				t.Error("a worker did nothing")
			}
			for n := range count {
				if key := fmt.Sprintf("worker %d, %d", worker, n); !found[key] {
					t.Fatalf("the charge %q is missing", key)
				}
			}
		}
	}
	close(stop)
	wg.Wait()
}

func TestBackupThatIsCutShortOrChangedIsRefusedAndLeavesNothing(t *testing.T) {
	file, _ := take(t, newBox(t))
	dir := filepath.Join(t.TempDir(), "new")
	refused := func(what string, file []byte) {
		t.Helper()
		if _, err := Check(t.Context(), bytes.NewReader(file)); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: Check: %v", what, err)
		}
	}
	step := len(file)/60 + 1
	for n := 0; n < len(file); n += step {
		refused(fmt.Sprintf("%d of %d bytes", n, len(file)), file[:n])
		changed := bytes.Clone(file)
		changed[n] ^= 0x10
		refused(fmt.Sprintf("byte %d changed", n), changed)
	}
	refused("without its last byte", file[:len(file)-1])
	refused("with a byte more", append(bytes.Clone(file), 'x'))
	refused("twice", append(bytes.Clone(file), file...))
	refused("something else", []byte("hello, this is no backup"))
	for _, n := range []int{len(file) / 2, len(file) - 1} {
		if _, err := Restore(t.Context(), bytes.NewReader(file[:n]), dir); !errors.Is(err, ErrBroken) {
			t.Errorf("%d bytes: Restore: %v", n, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("left behind: %v", names(t, dir))
		}
	}
}

// forge makes a backup with the given files, and whatever manifest belongs to it.
func forge(t testing.TB, headers []tar.Header, bodies [][]byte, m any) []byte {
	t.Helper()
	var out bytes.Buffer
	packed, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(packed)
	if m != nil {
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		headers, bodies = append(headers, tar.Header{Name: manifestName}), append(bodies, raw)
	}
	for n, h := range headers {
		h.Size, h.Mode = int64(len(bodies[n])), 0o600
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bodies[n]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWhatDoesNotBelongInABackupIsNotUnpacked(t *testing.T) {
	dir := t.TempDir()
	db := tar.Header{Name: databaseName}
	for what, file := range map[string][]byte{
		"a path out of the folder": forge(t, []tar.Header{db, {Name: "../evil"}}, [][]byte{nil, nil}, Manifest{Format: 1}),
		"an absolute path":         forge(t, []tar.Header{db, {Name: "/evil"}}, [][]byte{nil, nil}, Manifest{Format: 1}),
		"a path in the archives":   forge(t, []tar.Header{db, {Name: ledger.ArchiveFolder + "/../../evil"}}, [][]byte{nil, nil}, Manifest{Format: 1}),
		"a link":                   forge(t, []tar.Header{{Name: databaseName, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}}, [][]byte{nil}, Manifest{Format: 1}),
		"a database twice":         forge(t, []tar.Header{db, db}, [][]byte{nil, nil}, Manifest{Format: 1}),
		"no database":              forge(t, nil, nil, Manifest{Format: 1}),
		"no manifest":              forge(t, []tar.Header{db}, [][]byte{nil}, nil),
		"a manifest of nothing":    forge(t, []tar.Header{db}, [][]byte{nil}, Manifest{Format: 1}),
	} {
		if _, err := Restore(t.Context(), bytes.NewReader(file), filepath.Join(dir, "data")); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", what, err)
		}
		nothingIn(t, dir)
	}
	newer := forge(t, []tar.Header{db}, [][]byte{nil}, Manifest{Format: 2, EcoLink: "v9"})
	if _, err := Check(t.Context(), bytes.NewReader(newer)); err == nil || errors.Is(err, ErrBroken) {
		t.Errorf("a newer format: %v", err)
	}
}

func TestRestoreIsRefusedWhereABoxIs(t *testing.T) {
	file, _ := take(t, newBox(t))
	for _, name := range []string{databaseName, ledger.ArchiveFolder} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), bytes.NewReader(file), dir); !errors.Is(err, ErrOccupied) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != "precious" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if left := names(t, dir); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestRestoreThatWasCutOffIsBegunAnew(t *testing.T) {
	file, _ := take(t, newBox(t))
	dir := t.TempDir()
	left := filepath.Join(dir, restoreAside, ledger.ArchiveFolder)
	if err := errors.Join(os.MkdirAll(left, 0o700), os.WriteFile(filepath.Join(dir, restoreAside, databaseName), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(file), dir); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{databaseName, ledger.ArchiveFolder}) {
		t.Errorf("%v", got)
	}
}

// The archives are in their place and the database is not.
func TestRestoreThatWasCutOffBeforeTheDatabaseIsBegunAnew(t *testing.T) {
	st := newBox(t)
	file, _ := take(t, st)
	want := rows(t, st)
	dir := t.TempDir()
	folder := filepath.Join(dir, ledger.ArchiveFolder)
	cutOff := func() {
		t.Helper()
		if _, err := Restore(t.Context(), bytes.NewReader(file), dir); err != nil {
			t.Fatal(err)
		}
		aside := filepath.Join(dir, restoreAside)
		if err := errors.Join(os.Mkdir(aside, 0o700), os.Rename(filepath.Join(dir, databaseName), filepath.Join(aside, databaseName))); err != nil {
			t.Fatal(err)
		}
	}
	cutOff()
	if _, err := Restore(t.Context(), bytes.NewReader(file[:len(file)-1]), dir); !errors.Is(err, ErrBroken) {
		t.Fatalf("a broken one: %v", err)
	}
	cutOff()
	if err := os.Remove(filepath.Join(folder, names(t, folder)[0])); err != nil { // while it was cleared
		t.Fatal(err)
	}
	cutOff()
	if _, err := Restore(t.Context(), bytes.NewReader(file), dir); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{databaseName, ledger.ArchiveFolder}) {
		t.Errorf("%v", got)
	}
	if got := rows(t, open(t, dir)); !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
}

func TestArchivesThatTheBackupHasNotAreNotTouched(t *testing.T) {
	file, _ := take(t, newBox(t))
	for what, name := range map[string]string{"changed": "", "another": "journal-000000000900-000000000999.eca"} {
		dir := t.TempDir()
		if _, err := Restore(t.Context(), bytes.NewReader(file), dir); err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(dir, ledger.ArchiveFolder)
		if name == "" {
			name = names(t, folder)[0]
		}
		if err := errors.Join(os.Remove(filepath.Join(dir, databaseName)), os.WriteFile(filepath.Join(folder, name), []byte("precious"), 0o600)); err != nil {
			t.Fatal(err)
		}
		before := names(t, folder)
		if _, err := Restore(t.Context(), bytes.NewReader(file), dir); !errors.Is(err, ErrOccupied) {
			t.Errorf("%s: %v", what, err)
		}
		if got, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(got) != "precious" {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		if after := names(t, folder); !slices.Equal(after, before) || len(names(t, dir)) != 1 {
			t.Errorf("%s: left %v in %v", what, after, names(t, dir))
		}
	}
}

func TestDatabaseThatComesMeanwhileIsNotReplaced(t *testing.T) {
	file, _ := take(t, newBox(t))
	dir := t.TempDir()
	comes := readerFunc(func(p []byte) (int, error) {
		return 0, errors.Join(os.WriteFile(filepath.Join(dir, databaseName), []byte("precious"), 0o600), io.EOF)
	})
	if _, err := Restore(t.Context(), io.MultiReader(bytes.NewReader(file), eofAfter{comes}), dir); !errors.Is(err, ErrOccupied) {
		t.Fatalf("got %v", err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{databaseName}) {
		t.Errorf("left: %v", got)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// eofAfter hides what an end is joined with.
type eofAfter struct{ r io.Reader }

func (e eofAfter) Read(p []byte) (int, error) {
	if _, err := e.r.Read(p); !errors.Is(err, io.EOF) {
		return 0, err
	}
	return 0, io.EOF
}

func TestBackupWhoseBooksDisagreeIsNotRestored(t *testing.T) {
	st := newBox(t)
	raw := store.NewIntCollection[int64, []byte]("ledger.marks").With(store.Raw())
	update(t, st, func(tx *store.Tx) error { return raw.Put(tx, 1, []byte{1}) }) // an entry too many
	file, _ := take(t, st)
	dir := filepath.Join(t.TempDir(), "new")
	var wrong *ledger.Disagreement
	if _, err := Restore(t.Context(), bytes.NewReader(file), dir); !errors.As(err, &wrong) {
		t.Fatalf("got %v", err)
	}
	nothingIn(t, filepath.Dir(dir))
}

func TestBackupWithoutItsArchivesIsNotMade(t *testing.T) {
	st := newBox(t)
	folder := filepath.Join(filepath.Dir(st.Path()), ledger.ArchiveFolder)
	archive := filepath.Join(folder, names(t, folder)[0])
	whole, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	for what, do := range map[string]func() error{
		"damaged": func() error { return os.WriteFile(archive, damaged, 0o600) },
		"shorter": func() error { return os.WriteFile(archive, whole[:100], 0o600) },
		"missing": func() error { return os.Remove(archive) },
	} {
		if err := do(); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		var out bytes.Buffer
		_, err := Write(t.Context(), st, &out, "v1", noon)
		var lost *ledger.ArchiveError
		if !errors.As(err, &lost) || lost.Path != archive {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := Check(t.Context(), &out); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: what was written passes for a backup: %v", what, err)
		}
	}
}

func TestBackupEndsWithItsContext(t *testing.T) {
	st := newBox(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, st, io.Discard, "v1", noon); !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v", err)
	}
	if _, err := Check(ctx, bytes.NewReader(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("Check: %v", err)
	}
}
