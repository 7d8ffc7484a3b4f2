package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNoFileIsTooLargeAndTheNewestAreKept(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "*")
		if err != nil {
			rt.Fatal(err)
		}
		config := Config{Dir: dir, MaxBytes: rapid.Int64Range(minMaxBytes, 9000).Draw(rt, "max"), Files: rapid.IntRange(1, 5).Draw(rt, "files")}
		w := &files{config: config, now: nil}
		defer func() { _ = w.current.Close() }()
		var all []string
		for range rapid.IntRange(1, 20).Draw(rt, "batches") {
			var batch []byte
			for range rapid.IntRange(1, 12).Draw(rt, "records") {
				text := strings.Repeat("x", rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(3000, MaxTextBytes)).Draw(rt, "length"))
				all = append(all, text)
				batch = append(batch, record(len(all), text)...)
			}
			w.write(batch)
			if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
				_ = w.current.Close()
				w = &files{config: config}
			}
			_ = w.open()
		}
		if w.lostRecords != 0 {
			rt.Fatalf("%d records lost: %v", w.lostRecords, w.lostTo)
		}
		found := names(t, dir)
		if len(found) > config.Files {
			rt.Fatalf("%d files: %v", len(found), found)
		}
		for _, name := range found {
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				rt.Fatal(err)
			}
			if !isWholeRecords(content) || int64(len(content)) > config.MaxBytes && strings.Count(string(content), "\n") > 1 {
				rt.Fatalf("%s has %d bytes in %d lines", name, len(content), strings.Count(string(content), "\n"))
			}
		}
		got := texts(mustReadAll(t, dir, Options{}))
		if len(got) == 0 || len(got) > len(all) {
			rt.Fatalf("%d lines of %d", len(got), len(all))
		}
		for i, text := range all[len(all)-len(got):] {
			if got[i] != text {
				rt.Fatalf("line %d of %d is not the one that was written", i, len(got))
			}
		}
	})
}

func TestATornLastRecordCostsOnlyItself(t *testing.T) {
	w := newFiles(t, minMaxBytes, 2)
	w.numbered(0, 3)
	torn := record(3, "line 3")
	if _, err := w.current.Write(torn[:20]); err != nil { // a power cut
		t.Fatal(err)
	}
	wantNumbered(t, mustReadAll(t, w.config.Dir, Options{}), 0, 3)
	again := &files{config: w.config, now: w.now}
	t.Cleanup(func() { _ = again.current.Close() })
	for n := 3; n < 6; n++ {
		again.write(record(n, fmt.Sprintf("line %d", n)))
	}
	wantNumbered(t, mustReadAll(t, w.config.Dir, Options{}), 0, 6)
	wantNumbered(t, mustReadAll(t, w.config.Dir, Options{TailLines: 3}), 3, 6)
	wantNumbered(t, mustReadAll(t, w.config.Dir, Options{TailLines: 4}), 3, 6) // the torn one counts
	wantNumbered(t, mustReadAll(t, w.config.Dir, Options{TailLines: 5}), 2, 6)
}

func TestAHoleInTheNumbersIsTakenInItsStride(t *testing.T) {
	w := newFiles(t, minMaxBytes, 4)
	w.numbered(0, 400)
	dir := w.config.Dir
	// A crash in the middle of a rotation.
	if err := os.Remove(path(dir, 3)); err != nil {
		t.Fatal(err)
	}
	for n := 3; n > 1; n-- {
		if err := os.Rename(path(dir, n-1), path(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	before := mustReadAll(t, dir, Options{})
	if len(before) < 100 || before[len(before)-1].Text != "line 399" {
		t.Fatalf("%d lines", len(before))
	}
	w.numbered(400, 520) // over the next rotation, which fills the hole
	if got := names(t, dir); fmt.Sprint(got) != "[1.log 2.log 3.log current.log]" {
		t.Fatalf("files %v", got)
	}
	got := mustReadAll(t, dir, Options{})
	wantNumbered(t, got, 520-len(got), 520)
}

func TestTheLogIsForItsOwnerOnly(t *testing.T) {
	w := newFiles(t, minMaxBytes, 1)
	w.numbered(0, 1)
	for path, want := range map[string]os.FileMode{w.config.Dir: 0o700 | os.ModeDir, path(w.config.Dir, 0): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}
