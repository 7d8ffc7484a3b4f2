package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// powerCut lets a process work on the disk, takes the power away, and mounts the
// disk anew, as after a boot. It gives what the process said.
func powerCut(d *disk, j job, early bool) []line {
	p := startWork(d.t, j)
	if early {
		p.listen(10*time.Second, opening)
		p.listen(time.Duration(rand.IntN(3000))*time.Microsecond, "")
	} else {
		p.listen(10*time.Second, done)
		p.listen(time.Millisecond+time.Duration(rand.IntN(60_000))*time.Microsecond, "")
	}
	d.cut()
	p.listen(3*time.Millisecond, "") // does it acknowledge what can't be written?
	lines := p.kill()
	d.again()
	return lines
}

func TestPowerCutLosesNothingThatWasAcknowledged(t *testing.T) {
	d := newDisk(t, 64)
	cuts := times(6, 60)
	b := newBooks()
	path := filepath.Join(d.dir, "ecolink.db")
	for n := range cuts {
		lines := powerCut(d, anyJob(path, n), false)
		if err := reopen(b, path, lines, n%5 == 4); err != nil {
			t.Fatalf("cut %d: %v", n, err)
		}
	}
	t.Logf("%d power cuts: %s", cuts, b.checked)
	if b.checked.acknowledged < 2*cuts {
		t.Error("too few operations were acknowledged to tell anything")
	}
}

// The power goes while the database is made: afterwards there is one, or none,
// and it goes on.
func TestPowerCutDuringCreationLeavesADatabaseOrNone(t *testing.T) {
	d := newDisk(t, 64)
	cuts := times(6, 60)
	var total tally
	none, unfinished := 0, 0
	for n := range cuts {
		path := filepath.Join(d.dir, fmt.Sprint(n), "ecolink.db")
		b := newBooks()
		lines := powerCut(d, job{Path: path, Run: n, Workers: 4}, true)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			none++
			if _, err := os.Stat(path + ".new"); err == nil {
				unfinished++
			}
		}
		if err := reopen(b, path, lines, false); err != nil {
			t.Fatalf("cut %d: %v", n, err)
		}
		// What is there now is a database like any other.
		if err := reopen(b, path, killSoon(startWork(t, job{Path: path, Run: cuts + n, Workers: 4}), false), false); err != nil {
			t.Fatalf("after cut %d: %v", n, err)
		}
		total.add(b.checked)
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d power cuts during the first moments, %d before there was a database, %d of them with a half of one aside: %s", cuts, none, unfinished, total)
}

// The control: on a disk that only says that it has written, the same cuts must
// lose something, and the same checks must find it.
func TestPowerCutOnADiskThatLiesIsFoundOut(t *testing.T) {
	d := newDisk(t, 64)
	cuts := times(2, 10)
	for n := range cuts {
		path := filepath.Join(d.dir, fmt.Sprint(n), "ecolink.db")
		b := newBooks()
		if n%2 == 0 { // on a database that was well made
			lines := killSoon(startWork(t, job{Path: path, Run: n, Workers: 4}), false)
			if err := reopen(b, path, lines, false); err != nil {
				t.Fatal(err)
			}
		}
		lines := powerCut(d, job{Path: path, Run: cuts + n, Workers: 4, Syncs: syncsLie}, false)
		err := reopen(b, path, lines, false)
		if err == nil {
			t.Errorf("cut %d: the disk wrote nothing of it, and nothing was missed", n)
		}
		t.Logf("cut %d, found out: %v", n, err)
	}
}
