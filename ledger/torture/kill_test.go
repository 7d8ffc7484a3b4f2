package torture

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"ecolink/ledger/store"
)

// A process that works on the database is killed at any moment, again and again,
// and each time everything that it was told is done is there, and nothing in part.
func TestKilledProcessLosesNothingThatWasAcknowledged(t *testing.T) {
	kills := times(25, 500)
	var total tally
	files, empty := 0, 0
	var b *books
	var path string
	for n := range kills {
		fresh := n%20 < 4
		if fresh { // the last of them is used for a while
			if b != nil {
				total.add(b.checked)
			}
			b, files = newBooks(), files+1
			path = filepath.Join(t.TempDir(), "data", "ecolink.db")
		}
		// Some are killed while they make the database, or open it.
		early := n%20 < 4
		p := startWork(t, anyJob(path, n))
		lines := killSoon(p, early)
		if len(failures(lines)) > 0 {
			t.Fatalf("kill %d: %+v", n, failures(lines))
		}
		before := b.checked
		if err := reopen(b, path, lines, n%5 == 4); err != nil {
			t.Fatalf("kill %d, file %d: %v", n, files, err)
		}
		if b.checked == before {
			empty++
		}
	}
	total.add(b.checked)
	t.Logf("%d kills, %d of them before anything was written, on %d files: %s", kills, empty, files, total)
	if total.acknowledged < 2*kills {
		t.Errorf("only %d operations were acknowledged in %d runs: they were killed too early to tell anything", total.acknowledged, kills)
	}
}

// anyJob is work with few or many workers, busy or with pauses.
func anyJob(path string, run int) job {
	return job{
		Path: path, Run: run,
		Workers: []int{1, 3, 16, 64}[rand.IntN(4)],
		Pause:   []time.Duration{0, time.Millisecond, 5 * time.Millisecond}[rand.IntN(3)],
	}
}

// killSoon kills a process at a random moment: 1 to 60 ms after the first thing
// that it was told is done, or already while it opens the database.
func killSoon(p *process, early bool) []line {
	if early {
		p.listen(10*time.Second, opening)
		p.listen(time.Duration(rand.IntN(15_000))*time.Microsecond, "")
	} else {
		p.listen(10*time.Second, done)
		p.listen(time.Millisecond+time.Duration(rand.IntN(60_000))*time.Microsecond, "")
	}
	return p.kill()
}

// reopen opens the database as the box does after a crash and checks it.
func reopen(b *books, path string, lines []line, mark bool) error {
	s, err := store.Open(path)
	if err != nil {
		return fmt.Errorf("open after the crash: %w", err)
	}
	defer s.Close()
	if err := b.check(s, lines); err != nil || !mark {
		return err
	}
	return checkpoint(s)
}
