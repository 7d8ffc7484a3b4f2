package terminal

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecolink/agent/keeper/keepertest"
	"ecolink/agent/keeper/session"
)

func TestMain(m *testing.M) { os.Exit(keepertest.Main(m)) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// ownShells starts shells with their hosts on this machine, outside of containers.
type ownShells struct {
	t       *testing.T
	started []*exec.Cmd
}

func (s *ownShells) StartShell(_ context.Context, _, _ string, args map[string]string) (pid int, err error) {
	host := keepertest.Start(s.t, args)
	shell := exec.Command(keepertest.Binary(s.t), "shell", "/bin/bash", "--norc", "-i")
	shell.Env = append(os.Environ(), "PS1=# ")
	shell.Stdout = host.Stdout
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := shell.Start(); err != nil {
		return 0, err
	}
	s.started = append(s.started, shell)
	s.t.Cleanup(func() {
		_ = shell.Process.Kill()
		_ = shell.Wait()
	})
	return shell.Process.Pid, nil
}

func (s *ownShells) EndProcess(context.Context, string, string) error { return nil }

func (s *ownShells) ExitCode(context.Context, string, string) (code int, known bool) { return 0, false }

func attach(t *testing.T, s *Sessions, from int64) *Terminal {
	t.Helper()
	term, err := s.Attach(t.Context(), "c", "main", from, 80, 24)
	if err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = term.Close() }) // which ends a read
	t.Cleanup(func() {
		late.Stop()
		_ = term.Close()
	})
	return term
}

// enter types a line and reads until the answer comes.
func enter(t *testing.T, term *Terminal, line, answer string) {
	t.Helper()
	if _, err := io.WriteString(term, line+"\n"); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for p := make([]byte, 4096); !strings.Contains(got.String(), answer); {
		n, err := term.Read(p)
		got.Write(p[:n])
		if err != nil {
			t.Fatalf("%q brought %q and %v", line, got.String(), err)
		}
	}
}

func TestExitEndsASessionWithAJobInTheBackgroundAndTheNextViewerGetsAFreshShell(t *testing.T) {
	shells := &ownShells{t: t}
	s := New(t.TempDir(), shells)
	term := attach(t, s, -1)
	enter(t, term, "x=old; sleep 30 & echo started $((6*7))", "started 42")
	if _, err := io.WriteString(term, "exit\n"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(term); !errors.Is(err, session.ErrEnded) {
		t.Fatalf("exit brought %q and %v, want the session's end", rest, err)
	}
	if all, err := s.List(t.Context(), "c"); err != nil || len(all) > 0 {
		t.Errorf("the list has %v, %v", all, err)
	}
	if _, err := s.Attach(t.Context(), "c", "main", term.Offset(), 80, 24); !errors.Is(err, session.ErrEnded) {
		t.Errorf("who comes back to where it ended gets %v", err)
	}
	enter(t, attach(t, s, -1), "echo [$x] $((6*7))", "[] 42")
	if len(shells.started) != 2 {
		t.Errorf("%d shells were started", len(shells.started))
	}
}

func TestAListingIsNoUseOfWhatItLists(t *testing.T) {
	s := New(t.TempDir(), &ownShells{t: t})
	term := attach(t, s, -1)
	enter(t, term, "echo $((6*7))", "42")
	if err := term.Leave(); err != nil {
		t.Fatal(err)
	}
	list := func() Session {
		t.Helper()
		all, err := s.List(t.Context(), "c")
		if err != nil || len(all) != 1 {
			t.Fatalf("the list has %v, %v", all, err)
		}
		return all[0]
	}
	for deadline := time.Now().Add(patience); list().Viewers > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the viewer does not leave")
		}
	}
	left := list().UsedAt
	if since := time.Since(left); since < 0 || since > patience {
		t.Errorf("used at %s, %s ago", left, since)
	}
	for range 2 {
		time.Sleep(1100 * time.Millisecond) // the list shows whole seconds
		if at := list().UsedAt; !at.Equal(left) {
			t.Errorf("used at %s, and nobody came since %s", at, left)
		}
	}
}
