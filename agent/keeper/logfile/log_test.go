package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// writer is a running log writer with the test as its container.
type writer struct {
	t              *testing.T
	config         Config
	stdout, stderr *os.File
	done           chan error
}

func newConfig(t *testing.T, maxBytes int64, files int) Config {
	t.Helper()
	return Config{Dir: filepath.Join(t.TempDir(), "log"), MaxBytes: maxBytes, Files: files}
}

func startWriter(t *testing.T, config Config) *writer {
	t.Helper()
	var ends [2][2]*os.File
	for i := range ends {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = [2]*os.File{r, w}
	}
	w := &writer{t: t, config: config, stdout: ends[0][1], stderr: ends[1][1], done: make(chan error, 1)}
	ready := make(chan struct{})
	go func() {
		defer close(w.done)
		w.done <- Serve(config, ends[0][0], ends[1][0], func() error { close(ready); return nil })
	}()
	t.Cleanup(func() {
		_, _ = w.stdout.Close(), w.stderr.Close()
		for range w.done {
		}
		_, _ = ends[0][0].Close(), ends[1][0].Close()
	})
	select {
	case <-ready:
	case err := <-w.done:
		t.Fatalf("Serve: %v", err)
	}
	return w
}

func (w *writer) print(text string) {
	w.t.Helper()
	if _, err := w.stdout.WriteString(text); err != nil {
		w.t.Fatal(err)
	}
}

// end closes the pipes and waits for the writer.
func (w *writer) end() {
	w.t.Helper()
	_, _ = w.stdout.Close(), w.stderr.Close()
	select {
	case err := <-w.done:
		if err != nil {
			w.t.Fatalf("Serve: %v", err)
		}
	case <-time.After(patience):
		w.t.Fatal("the writer does not end")
	}
}

func mustReadAll(t *testing.T, dir string, opts Options) []Line {
	t.Helper()
	var lines []Line
	if err := Read(dir, opts, func(line Line) error { lines = append(lines, line); return nil }); err != nil {
		t.Fatal(err)
	}
	return lines
}

// printed joins a stream's texts as doc.go says.
func printed(lines []Line, stream string) string {
	var b strings.Builder
	for _, line := range lines {
		if line.Stream != stream {
			continue
		}
		b.WriteString(line.Text)
		if !line.Partial {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func texts(lines []Line) []string {
	var all []string
	for _, line := range lines {
		text := line.Text
		if line.Partial {
			text += "…"
		}
		all = append(all, text)
	}
	return all
}

// newFiles is the writing side alone, at a fixed time.
func newFiles(t *testing.T, maxBytes int64, count int) *files {
	t.Helper()
	w := &files{config: newConfig(t, maxBytes, count), now: func() time.Time { return noon }}
	t.Cleanup(func() {
		if w.current != nil {
			_ = w.current.Close()
		}
	})
	return w
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 5, time.UTC)

// record is one record of stdout, a second later for each number.
func record(number int, text string) []byte {
	at := noon.Add(time.Duration(number) * time.Second)
	return appendRecord(nil, appendStamp(nil, at), Stdout, []byte(text), false)
}

// numbered writes the records number from to to-1, one call for each.
func (w *files) numbered(from, to int) {
	for n := from; n < to; n++ {
		w.write(record(n, fmt.Sprintf("line %d", n)))
	}
}

func wantNumbered(t *testing.T, got []Line, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("%d lines, want %d", len(got), to-from)
	}
	for i, line := range got {
		want := Line{Time: noon.Add(time.Duration(from+i) * time.Second), Stream: Stdout, Text: fmt.Sprintf("line %d", from+i)}
		if line != want {
			t.Fatalf("line %d is %+v, want %+v", i, line, want)
		}
	}
}

// newDisk mounts a file system of its own, of which a test can use up all.
func newDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk leaves no byte free; what it returns frees them again.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4<<10))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !check(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

func isWholeRecords(content []byte) bool {
	return len(content) == 0 || bytes.HasSuffix(content, []byte("\n"))
}
