package initproc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLookPathFindsWhatExecvpWould(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("first/denied", 0o644)
	write("first/only-denied", 0o644)
	write("second/denied", 0o755)
	write("second/tool", 0o755)
	write("third/tool", 0o755)
	write("third/folder", 0o755)
	write("here", 0o755)
	if err := os.Mkdir(filepath.Join(dir, "second/folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)

	rows := []struct{ name, path, want, err string }{
		{"tool", "first:second:third", "second/tool", ""},
		{"denied", "first:second:third", "second/denied", ""},
		{"folder", "first:second:third", "third/folder", ""},
		{"only-denied", "first:second", "", "first/only-denied: permission denied"},
		{"here", "first::second", "./here", ""},
		{"here", "", "./here", ""},
		{"here", "first", "", "here: not found in PATH (first)"},
		{"./anything", "first", "./anything", ""},
		{"/no/such", "first", "/no/such", ""},
		{"", "first", "", "the command's name is empty"},
	}
	for _, row := range rows {
		t.Setenv("PATH", row.path)
		got, err := lookPath(row.name)
		if got != row.want || fmt.Sprint(err) != row.err && (err != nil || row.err != "") {
			t.Errorf("%q in %q: got %q, %v; want %q, %s", row.name, row.path, got, err, row.want, row.err)
		}
	}
}

func TestLookPathWithoutAPathSearchesTheUsualFolders(t *testing.T) {
	t.Setenv("PATH", "")
	if err := os.Unsetenv("PATH"); err != nil {
		t.Fatal(err)
	}
	if got, err := lookPath("sh"); err != nil || !strings.HasSuffix(got, "bin/sh") {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestWhoHeedsTheStop(t *testing.T) {
	const nothing, term, others = "0000000000000000", "0000000000004000", "fffffffe7fffbaff"
	status := func(state, ignored string) string {
		return "Name:\tx\nState:\t" + state + "\nSigBlk:\t" + term + "\nSigIgn:\t" + ignored + "\nSigCgt:\t" + term + "\n"
	}
	rows := map[string]struct {
		status string
		want   bool
	}{
		"a running process":             {status("R (running)", nothing), true},
		"a stopped process":             {status("T (stopped)", nothing), true},
		"one that ignores other things": {status("S (sleeping)", others), true},
		"one that ignores the stop":     {status("S (sleeping)", term), false},
		"a shell":                       {status("S (sleeping)", "0000000000384004"), false},
		"a zombie":                      {status("Z (zombie)", nothing), false},
		"a dead process":                {status("X (dead)", nothing), false},
		"one that ended as we read it":  {"", false},
		"a mask that is no number":      {status("R (running)", "?"), false},
	}
	for name, row := range rows {
		if got := heedsTerm([]byte(row.status)); got != row.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if !heedsTerm(own) {
		t.Error("this test does not heed SIGTERM")
	}
}
