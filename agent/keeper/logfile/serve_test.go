package logfile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ecolink/agent/keeper/keepertest"
)

func TestWhatWasPrintedComesBackByteForByte(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	output := func() string {
		var b strings.Builder
		for b.Len() < 400_000 {
			switch rng.IntN(5) {
			case 0:
				b.WriteString(strings.Repeat("\n", rng.IntN(300)))
			case 1: // around the longest text
				b.WriteString(strings.Repeat("x", MaxTextBytes*rng.IntN(3)+rng.IntN(3)-1+1) + "\n")
			case 2:
				b.WriteString("ünï\x00\xff\r\t\n")
			default:
				fmt.Fprintf(&b, "line %d\n", b.Len())
			}
		}
		return b.String()
	}
	w := startWriter(t, newConfig(t, 64<<10, 100))
	out, errs := output(), output()+"the end without a newline"
	var printing sync.WaitGroup
	for file, text := range map[*os.File]string{w.stdout: out, w.stderr: errs} {
		pieces := rand.New(rand.NewPCG(8, uint64(len(text))))
		printing.Go(func() {
			for len(text) > 0 {
				n := min(len(text), 1+pieces.IntN(30_000))
				if _, err := file.WriteString(text[:n]); err != nil {
					t.Error(err)
				}
				text = text[n:]
			}
		})
	}
	printing.Wait()
	w.end()
	lines := mustReadAll(t, w.config.Dir, Options{})
	if got := printed(lines, Stdout); got != out {
		t.Errorf("stdout: %d bytes, want %d", len(got), len(out))
	}
	if got := printed(lines, Stderr); got != errs {
		t.Errorf("stderr: %d bytes, want %d", len(got), len(errs))
	}
	for i, line := range lines {
		if len(line.Text) > MaxTextBytes || line.Time.Location() != time.UTC || i > 0 && line.Time.Before(lines[i-1].Time) {
			t.Fatalf("line %d: %d bytes at %v", i, len(line.Text), line.Time)
		}
	}
}

func TestALineOfTheLongestTextIsOneRecord(t *testing.T) {
	w := startWriter(t, newConfig(t, 1<<20, 1))
	long := strings.Repeat("x", MaxTextBytes)
	w.print(long + "\n" + long + "y\n\n")
	w.end()
	got := texts(mustReadAll(t, w.config.Dir, Options{}))
	if want := []string{long, long + "…", "y", ""}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %d records", len(got))
	}
}

func TestAPromptIsSeenAndGoesOn(t *testing.T) {
	w := startWriter(t, newConfig(t, 1<<20, 1))
	w.print("name: ")
	began := time.Now()
	eventually(t, "the prompt is in the log", func() bool { return len(mustReadAll(t, w.config.Dir, Options{})) == 1 })
	if waited := time.Since(began); waited > 5*time.Second {
		t.Errorf("it took %v", waited)
	}
	w.print("ada\n")
	w.end()
	if got := fmt.Sprint(texts(mustReadAll(t, w.config.Dir, Options{}))); got != "[name: … ada]" {
		t.Fatalf("got %s", got)
	}
}

func TestTheWriterEndsOnlyWhenBothPipesHave(t *testing.T) {
	w := startWriter(t, newConfig(t, 1<<20, 1))
	_ = w.stdout.Close()
	time.Sleep(50 * time.Millisecond)
	if _, err := w.stderr.WriteString("still here\n"); err != nil {
		t.Fatal(err)
	}
	w.end()
	if got := fmt.Sprint(texts(mustReadAll(t, w.config.Dir, Options{}))); got != "[still here]" {
		t.Fatalf("got %s", got)
	}
}

func TestAFailedReadyIsReturned(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	failure := errors.New("the shim is gone")
	if err := Serve(newConfig(t, minMaxBytes, 1), r, r, func() error { return failure }); !errors.Is(err, failure) {
		t.Fatalf("got %v", err)
	}
}

func TestAFullDiskIsNotedAndBlocksNobody(t *testing.T) {
	keepertest.NeedRoot(t)
	disk := newDisk(t, 4<<20) // room for all that is printed once it is free again
	w := startWriter(t, Config{Dir: filepath.Join(disk, "log"), MaxBytes: 16 << 20, Files: 2})
	w.print("before\n")
	eventually(t, "the first line", func() bool { return len(mustReadAll(t, w.config.Dir, Options{})) == 1 })
	free := fillDisk(t, disk)
	const lost = 20_000
	for n := range lost { // more than pipes and slack hold
		w.print(fmt.Sprintf("during %06d\n", n))
	}
	free()
	eventually(t, "the note is there", func() bool { // the container is silent: it comes by itself
		return strings.Contains(fmt.Sprint(texts(mustReadAll(t, w.config.Dir, Options{}))), "missing here")
	})
	w.print("after\n")
	w.end()

	lines := mustReadAll(t, w.config.Dir, Options{})
	kept, missing, next := 0, 0, 0
	for _, line := range lines[1 : len(lines)-1] {
		var n int
		if _, err := fmt.Sscanf(line.Text, "ecolink: %d log records", &n); err == nil {
			if line.Stream != Stderr || !strings.Contains(line.Text, "no space left on device") {
				t.Errorf("the note is %+v", line)
			}
			missing += n
			next += n
			continue
		}
		if line.Text != fmt.Sprintf("during %06d", next) {
			t.Fatalf("got %q, want number %d", line.Text, next)
		}
		kept++
		next++
	}
	if lines[0].Text != "before" || lines[len(lines)-1].Text != "after" || kept+missing != lost || missing == 0 {
		t.Fatalf("%d kept and %d missing of %d", kept, missing, lost)
	}
	for _, name := range names(t, w.config.Dir) {
		content, err := os.ReadFile(filepath.Join(w.config.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for row := range strings.Lines(string(content)) {
			if _, ok := parse([]byte(strings.TrimSuffix(row, "\n"))); !ok {
				t.Errorf("%s: a torn record %q is left", name, row)
			}
		}
	}
}

func TestAFolderThatCannotBeMadeIsNotedLater(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "in\nthe way")
	if err := os.WriteFile(parent, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := startWriter(t, Config{Dir: filepath.Join(parent, "log"), MaxBytes: minMaxBytes, Files: 1})
	w.print("one\ntwo\n")
	time.Sleep(50 * time.Millisecond)
	if err := os.Remove(parent); err != nil {
		t.Fatal(err)
	}
	w.print("three\n")
	w.end()
	got := mustReadAll(t, w.config.Dir, Options{})
	if len(got) != 2 || !strings.HasPrefix(got[0].Text, "ecolink: 2 log records (") || got[1].Text != "three" {
		t.Fatalf("got %q", texts(got))
	}
}
