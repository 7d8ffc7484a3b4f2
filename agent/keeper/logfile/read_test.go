package logfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestTailAndSinceSelectTheBeginning(t *testing.T) {
	const total = 400
	w := newFiles(t, minMaxBytes, 100) // some 90 records in a file
	w.numbered(0, total)
	for _, n := range []int{1, 2, 89, 90, 91, 200, total - 1, total, total + 1} {
		wantNumbered(t, mustReadAll(t, w.config.Dir, Options{TailLines: n}), max(0, total-n), total)
	}
	wantNumbered(t, mustReadAll(t, w.config.Dir, Options{}), 0, total)
	wantNumbered(t, mustReadAll(t, w.config.Dir, Options{TailLines: -1}), 0, 0)
	for _, n := range []int{0, 1, 95, total - 1, total} {
		since := noon.Add(time.Duration(n) * time.Second)
		wantNumbered(t, mustReadAll(t, w.config.Dir, Options{Since: since}), n, total)
		wantNumbered(t, mustReadAll(t, w.config.Dir, Options{Since: since, TailLines: 50}), max(n, total-50), total)
	}
}

// TestSinceFindsTheLastLineOfAnOlderFile has the clock of file times, which is
// coarse, behind the records'.
func TestSinceFindsTheLastLineOfAnOlderFile(t *testing.T) {
	w := newFiles(t, minMaxBytes, 3)
	w.numbered(0, 150)
	if err := os.Chtimes(path(w.config.Dir, 1), time.Time{}, noon); err != nil {
		t.Fatal(err)
	}
	var lastOfOlder int
	content, err := os.ReadFile(path(w.config.Dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	if _, err := fmt.Sscanf(lines[len(lines)-1][textAt:], "line %d", &lastOfOlder); err != nil {
		t.Fatal(err)
	}
	at := noon.Add(time.Duration(lastOfOlder) * time.Second)
	if err := os.Chtimes(path(w.config.Dir, 1), time.Time{}, at.Add(-10*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	wantNumbered(t, mustReadAll(t, w.config.Dir, Options{Since: at}), lastOfOlder, 150)
}

func TestALogThatDoesNotExistHasNoLines(t *testing.T) {
	config := newConfig(t, minMaxBytes, 1)
	if got := mustReadAll(t, config.Dir, Options{TailLines: 3}); len(got) != 0 {
		t.Fatalf("got %v", got)
	}
}

func TestForeignLinesArePassedOver(t *testing.T) {
	w := newFiles(t, 10<<20, 1)
	w.numbered(0, 1)
	for _, foreign := range []string{"no record\n", "\n", strings.Repeat("x", 3*blockBytes) + "\n", "\x00\x00\n"} {
		if _, err := w.current.WriteString(foreign); err != nil {
			t.Fatal(err)
		}
	}
	w.numbered(1, 3)
	wantNumbered(t, mustReadAll(t, w.config.Dir, Options{}), 0, 3)
}

func TestTheReadersErrorEndsItAndComesBack(t *testing.T) {
	w := newFiles(t, minMaxBytes, 3)
	w.numbered(0, 150)
	enough := errors.New("enough")
	seen := 0
	each := func(Line) error {
		if seen++; seen == 100 {
			return enough
		}
		return nil
	}
	if err := Read(w.config.Dir, Options{}, each); err != enough || seen != 100 {
		t.Fatalf("%d lines, %v", seen, err)
	}
	seen = 0
	if err := Follow(t.Context(), w.config.Dir, Options{}, each); err != enough || seen != 100 {
		t.Fatalf("%d lines, %v", seen, err)
	}
}

// follow runs Follow until the test stops it; stop returns what it delivered.
func follow(t *testing.T, dir string, opts Options, each func(Line) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Follow(ctx, dir, opts, each) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow: %v", err)
		}
	}
}

// TestFollowersSeeEveryLineOnceOverRotations has several of them follow a
// container that prints as fast as they can read.
func TestFollowersSeeEveryLineOnceOverRotations(t *testing.T) {
	const total, ahead = 60_000, 2_000 // so no follower is further behind than the log is long
	w := startWriter(t, newConfig(t, 64<<10, 10))
	var seen [3]atomic.Int64
	for i := range seen {
		stop := follow(t, w.config.Dir, Options{}, func(line Line) error {
			if want := fmt.Sprintf("line %d", seen[i].Load()); line.Text != want || line.Stream != Stdout {
				t.Errorf("follower %d: %+v, want %s", i, line, want)
				return errors.New("wrong line")
			}
			seen[i].Add(1)
			return nil
		})
		t.Cleanup(stop)
	}
	slowest := func() int64 { return min(seen[0].Load(), seen[1].Load(), seen[2].Load()) }
	for n := range total {
		w.print(fmt.Sprintf("line %d\n", n))
		if n%500 == 0 {
			eventually(t, "the followers come after", func() bool { return t.Failed() || slowest() > int64(n-ahead) })
		}
		if t.Failed() {
			return
		}
	}
	w.end()
	eventually(t, "all lines", func() bool { return t.Failed() || slowest() == total })
}

// TestAFollowerThatLosesLinesIsTold has a log turn over faster than anybody
// can read: lines may be missing at the marks only, and none comes twice.
func TestAFollowerThatLosesLinesIsTold(t *testing.T) {
	for _, count := range []int{2, 3, 8} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			w := newFiles(t, minMaxBytes, count)
			w.numbered(0, 1)
			var mu sync.Mutex
			next, marked, gaps := 0, false, 0
			stop := follow(t, w.config.Dir, Options{}, func(line Line) error {
				mu.Lock()
				defer mu.Unlock()
				if strings.HasPrefix(line.Text, "ecolink:") && line.Stream == Stderr {
					marked = true
					gaps++
					return nil
				}
				var n int
				if _, err := fmt.Sscanf(line.Text, "line %d", &n); err != nil || n < next || n > next && !marked {
					t.Errorf("got %q, want number %d; a mark before: %v", line.Text, next, marked)
				}
				next, marked = n+1, false
				return nil
			})
			eventually(t, "the first line", func() bool { mu.Lock(); defer mu.Unlock(); return next == 1 })
			const total = 30_000
			w.numbered(1, total)
			eventually(t, "the last line", func() bool { mu.Lock(); defer mu.Unlock(); return next == total })
			stop()
			t.Logf("%d gaps", gaps)
		})
	}
}

func TestReadGivesASpanOfTheLogWhileItTurnsOver(t *testing.T) {
	w := newFiles(t, minMaxBytes, 3)
	w.numbered(0, 300)
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := 300; ; n++ {
			select {
			case <-stop:
				return
			default:
				w.numbered(n, n+1)
			}
		}
	})
	for range 300 {
		lines := mustReadAll(t, w.config.Dir, Options{})
		if len(lines) == 0 {
			t.Error("no lines")
			continue
		}
		first := int(lines[0].Time.Sub(noon) / time.Second)
		wantNumbered(t, lines, first, first+len(lines))
	}
	close(stop)
	writing.Wait()
}

func TestAFollowerMayBeginBeforeTheLog(t *testing.T) {
	w := newFiles(t, minMaxBytes, 2)
	lines := make(chan Line, 100)
	stop := follow(t, w.config.Dir, Options{TailLines: -1}, func(line Line) error { lines <- line; return nil })
	time.Sleep(2 * followIdle)
	w.numbered(0, 2)
	for n := range 2 {
		if line := <-lines; line.Text != fmt.Sprintf("line %d", n) {
			t.Fatalf("got %+v", line)
		}
	}
	stop()
}

func TestAFollowerGoesOnAfterTheLogWasEmptiedByHand(t *testing.T) {
	w := newFiles(t, minMaxBytes, 2)
	w.numbered(0, 20)
	var last atomic.Value
	stop := follow(t, w.config.Dir, Options{}, func(line Line) error { last.Store(line.Text); return nil })
	eventually(t, "the old lines", func() bool { return last.Load() == "line 19" })
	if err := os.Truncate(path(w.config.Dir, 0), 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * followIdle)
	w.numbered(20, 21)
	eventually(t, "the new line", func() bool { return last.Load() == "line 20" })
	stop()
}
