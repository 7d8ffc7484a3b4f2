package torture

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ecolink/ledger/store"
)

const pageBytes = 4096

// damage is a way in which a file may come to hold something else than what was
// written. Each is done to a copy of the newest snapshot, and tells which pages
// it was done to.
type damage struct {
	name string
	do   func(f *filled, file []byte, rng *rand.Rand) (damaged []byte, pages []int)
}

var damages = []damage{
	{"a page of zeros", func(f *filled, file []byte, rng *rand.Rand) ([]byte, []int) {
		n := f.anyPage(rng)
		clear(page(file, n))
		return file, []int{n}
	}},
	{"a page of noise", func(f *filled, file []byte, rng *rand.Rand) ([]byte, []int) {
		n := f.anyPage(rng)
		noise(page(file, n), rng)
		return file, []int{n}
	}},
	{"a lost write", func(f *filled, file []byte, rng *rand.Rand) ([]byte, []int) {
		old, n := f.changedPage(rng)
		copy(page(file, n), page(old, n))
		return file, []int{n}
	}},
	{"several lost writes", func(f *filled, file []byte, rng *rand.Rand) (_ []byte, pages []int) {
		old := f.snapshots[rng.IntN(len(f.snapshots)-1)].file
		for _, n := range changed(old, file) {
			if rng.IntN(2) == 0 {
				copy(page(file, n), page(old, n))
				pages = append(pages, n)
			}
		}
		return file, pages
	}},
	{"a torn page", func(f *filled, file []byte, rng *rand.Rand) ([]byte, []int) {
		old, n := f.changedPage(rng)
		from := 512 * (1 + rng.IntN(7))
		copy(page(file, n)[from:], page(old, n)[from:])
		return file, []int{n}
	}},
	{"a flipped bit", func(f *filled, file []byte, rng *rand.Rand) ([]byte, []int) {
		n := f.anyPage(rng)
		at := rng.IntN(pageBytes)
		if rng.IntN(2) == 0 {
			at = rng.IntN(128) // where a page has what leads on to others
		}
		page(file, n)[at] ^= 1 << rng.IntN(8)
		return file, []int{n}
	}},
	{"a file cut short", func(f *filled, file []byte, rng *rand.Rand) ([]byte, []int) {
		size := rng.IntN(f.used)
		switch rng.IntN(6) {
		case 0:
			size = 0
		case 1:
			size = rng.IntN(4 * pageBytes)
		case 2:
			size -= size % pageBytes
		}
		return file[:size], []int{size / pageBytes}
	}},
}

// snapshot is the file as a commit left it, and what it said.
type snapshot struct {
	file []byte
	says string
}

// filled is a database with rows, holds and wallets, as it was at several moments.
type filled struct {
	snapshots []snapshot // the newest last
	used      int        // bytes; behind them the file is a hole
	size      int64
}

func newFilled(t *testing.T, dir string, steps int) *filled {
	t.Helper()
	s, err := store.Open(filepath.Join(dir, "filled.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer nowhere.Close()
	tell := &teller{out: nowhere}
	if _, err := prepare(s, tell, job{}); err != nil {
		t.Fatal(err)
	}
	w := &worker{store: s, tell: tell, name: "fill", rng: rand.New(rand.NewPCG(1, 2))}
	f := &filled{}
	for n := range steps {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
		if left := steps - n; left <= 12 || n%(steps/6) == steps/7 {
			f.snapshots = append(f.snapshots, shot(t, s))
		}
	}
	info, err := os.Stat(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	f.used, f.size = len(f.newest().file), info.Size()
	return f
}

func shot(t *testing.T, s *store.Store) (out snapshot) {
	t.Helper()
	err := s.View(func(tx *store.Tx) (err error) { out.says, err = print(tx); return err })
	if err != nil {
		t.Fatal(err)
	}
	if out.file, err = os.ReadFile(s.Path()); err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(out.file, "\x00"))
	out.file = slices.Clone(out.file[:(used+pageBytes-1)/pageBytes*pageBytes])
	return out
}

func (f *filled) newest() snapshot { return f.snapshots[len(f.snapshots)-1] }

// anyPage is any page, rather often one that was written lately.
func (f *filled) anyPage(rng *rand.Rand) int {
	switch rng.IntN(10) {
	case 0:
		return rng.IntN(4)
	case 1, 2, 3, 4:
		_, n := f.changedPage(rng)
		return n
	default:
		return rng.IntN(f.used / pageBytes)
	}
}

// changedPage is a page that is another one in an older snapshot.
func (f *filled) changedPage(rng *rand.Rand) (old []byte, n int) {
	for {
		old := f.snapshots[rng.IntN(len(f.snapshots)-1)].file
		if pages := changed(old, f.newest().file); len(pages) > 0 {
			return old, pages[rng.IntN(len(pages))]
		}
	}
}

// changed lists the pages of the older file that differ.
func changed(old, now []byte) (pages []int) {
	for n := range min(len(old), len(now)) / pageBytes {
		if !bytes.Equal(page(old, n), page(now, n)) {
			pages = append(pages, n)
		}
	}
	return pages
}

func page(file []byte, n int) []byte { return file[n*pageBytes : (n+1)*pageBytes] }

func noise(b []byte, rng *rand.Rand) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// write puts a file on disk, holes left out.
func (f *filled) write(path string, file []byte) error {
	if err := os.WriteFile(path, file[:min(len(file), f.used)], 0o600); err != nil {
		return err
	}
	if len(file) < f.used {
		return nil
	}
	return os.Truncate(path, f.size)
}

// However the file is damaged, either nobody sees anything of it, or somebody is
// told: no balance is ever wrong while the books are said to agree.
func TestDamageIsSeenOrDoesNoHarm(t *testing.T) {
	dir := memory(t, 512)
	f := newFilled(t, dir, times(1200, 3000))
	cases := times(140, 4000)
	var mu sync.Mutex
	counts := map[string]int{}
	var all sync.WaitGroup
	for worker := range 2 {
		all.Go(func() {
			p := &prober{t: t}
			defer p.stop()
			path := filepath.Join(dir, fmt.Sprintf("damaged-%d.db", worker))
			if err := f.write(path, f.newest().file); err != nil {
				t.Error(err)
				return
			}
			sound := p.look(path)
			if sound.Error != "" || sound.Before != f.newest().says {
				t.Errorf("the file without damage: %+v", sound)
				return
			}
			for n := worker; n < cases; n += 2 {
				rng := rand.New(rand.NewPCG(uint64(n), 7))
				d := damages[n%len(damages)]
				file, pages := d.do(f, slices.Clone(f.newest().file), rng)
				if err := f.write(path, file); err != nil {
					t.Error(err)
					return
				}
				found := p.look(path)
				outcome, allowed := f.judge(found, sound, pages, strings.Contains(d.name, "lost write"))
				mu.Lock()
				counts[d.name+": "+outcome]++
				if !allowed {
					t.Errorf("case %d, %s (%d pages, %v): %s at %s: %.500s", n, d.name, len(pages), pages[:min(len(pages), 20)], outcome, found.Stage, found.Error)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Logf("%d damaged databases of %d pages:", cases, f.used/pageBytes)
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%6d %s", counts[what], what)
	}
}

// judge says what became of a damaged database, and whether that may be.
func (f *filled) judge(found, sound finding, pages []int, lost bool) (outcome string, allowed bool) {
	// Verify agreed with what was read before the write.
	believed := found.Stage == writeStage || found.Stage == againStage
	switch {
	case found.Circle && lost:
		// A known gap: an old branch page may lead back to one that is above it
		// now, and bbolt follows it for ever. Nothing is written or answered.
		return "KNOWN GAP: A CIRCLE OF PAGES", true
	case found.Crashed:
		return "A CRASH OR A HANG", false
	case found.Error != "" && !found.Clear:
		return "AN ERROR THAT DOES NOT SAY THAT THE FILE IS DAMAGED", false
	case believed && found.Before != sound.Before:
		// A lost write of a meta page is the one that can't be told from a commit
		// that never came: the state of a commit before it, all of it.
		meta := slices.Contains(pages, 0) || slices.Contains(pages, 1)
		if meta && f.older(found.Before) {
			return "the state before the lost commit", true
		}
		return "A WRONG STATE THAT VERIFIES", false
	case found.Error != "":
		return "refused at " + found.Stage, true
	case found.After != sound.After:
		return "A WRONG STATE AFTER A WRITE", false
	default:
		return "as it was", true
	}
}

// older tells whether this is what one of the last commits left.
func (f *filled) older(says string) bool {
	return slices.ContainsFunc(f.snapshots, func(s snapshot) bool { return s.says == says })
}
