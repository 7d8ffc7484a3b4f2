package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecolink/agent/keeper/keepertest"
)

// newShell is a host whose shell is a real one, with a viewer that has seen its
// first words.
func newShell(t *testing.T, script string) (config Config, viewer *Conn, done <-chan error) {
	t.Helper()
	announce, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	config = newConfig(t, 1<<20)
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(ended)
		ended <- serve(ctx, config, usualAllowance, announce, func() error { close(ready); return nil })
	}()
	t.Cleanup(func() {
		stop()
		for range ended {
		}
		_ = announce.Close()
	})
	<-ready
	shell := exec.Command(keepertest.Binary(t), "shell", "/bin/sh", "-c", "stty -echo -opost; echo hello; read go\n"+script)
	shell.Stdout = say
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := errors.Join(shell.Start(), say.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = shell.Process.Kill()
		_ = shell.Wait()
	})
	if err := Adopt(t.Context(), config.Dir, shell.Process.Pid, Window{80, 24}); err != nil {
		t.Fatal(err)
	}
	viewer = attach(t, config.Dir, FromOldest)
	if _, err := io.ReadFull(viewer, make([]byte, len("hello\n"))); err != nil {
		t.Fatal(err)
	}
	return config, viewer, ended
}

// goOn has the shell run its script, and gives all that it printed to its end.
func goOn(t *testing.T, c *Conn) string {
	t.Helper()
	if _, err := c.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	if _, err := io.Copy(&all, c); !errors.Is(err, ErrEnded) {
		t.Fatalf("the terminal goes on after %q: %v", all.String(), err)
	}
	return all.String()
}

func TestATerminalEndsWithItsShellAlthoughAJobStillHasItOpen(t *testing.T) {
	dir := t.TempDir()
	// What a background job of a shell with job control is to its terminal.
	config, viewer, done := newShell(t, "set -m; (until [ -e "+dir+"/go ]; do sleep 0.05; done; echo more; : > "+dir+"/done) & echo bye; exit")
	if got := goOn(t, viewer); got != "bye\n" {
		t.Errorf("it printed %q", got)
	}
	if total, reason, ended := Ended(config.Dir); !ended || total != int64(len("hello\nbye\n")) || reason != "" {
		t.Errorf("the mark says %d, %q, %v", total, reason, ended)
	}
	if _, err := Dial(t.Context(), config.Dir, FromScreen, Window{}); !errors.Is(err, ErrEnded) {
		t.Errorf("attach again: %v", err)
	}
	_ = viewer.Close() // which has the PTY's master, too
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job comes to its end", func() bool {
		_, err := os.Stat(filepath.Join(dir, "done"))
		return err == nil
	})
}

// A terminal that ends by its shell's exit alone must give what that printed as late as
// it could.
func TestNothingOfAShellsLastWordsIsLostWhenAJobStillHasItsTerminalOpen(t *testing.T) {
	const lines = 700 // as much as the kernel keeps, and waits to hand over
	var want strings.Builder
	for n := range lines {
		fmt.Fprintf(&want, "last words %d\n", n)
	}
	file := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(file, []byte(want.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		_, viewer, _ := newShell(t, "set -m; sleep 5 & exec cat "+file)
		if got := goOn(t, viewer); got != want.String() {
			t.Fatalf("%d bytes of %d came; the last are %q", len(got), want.Len(), got[max(0, len(got)-40):])
		}
	}
}

func TestAJobThatPrintsOnAndOnDoesNotKeepATerminalAlive(t *testing.T) {
	_, viewer, done := newShell(t, "set -m; for n in 1 2 3 4; do yes & done; exit")
	goOn(t, viewer)
	_ = viewer.Close()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestWhoAsksForTheStatusDoesNotUseTheTerminal(t *testing.T) {
	term := newTerminal(t, minScrollbackBytes)
	c := term.attach(FromNow)
	came := readStatus(t, term).UsedAt
	if since := time.Since(came); since < 0 || since > patience {
		t.Fatalf("used at %s", came)
	}
	_ = c.Leave()
	_ = c.Close()
	eventually(t, "leaving is use", func() bool { return readStatus(t, term).UsedAt.After(came) })
	left := readStatus(t, term).UsedAt
	for range 5 {
		if at := readStatus(t, term).UsedAt; !at.Equal(left) {
			t.Fatalf("used at %s, and nobody came since %s", at, left)
		}
	}
}

func readStatus(t *testing.T, term *terminal) Status {
	t.Helper()
	s, err := ReadStatus(t.Context(), term.config.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
