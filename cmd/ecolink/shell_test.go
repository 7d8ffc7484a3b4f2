package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"

	"github.com/creack/pty"

	"ecolink/agent"
	"ecolink/scheduler/schedulertest"
)

// runOnHost is a machine's Exec without a container.
func runOnHost(ctx context.Context, argv []string, std agent.Stdio) (int, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = std.Stdin, std.Stdout, std.Stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode(), nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return 0, schedulertest.Refusal(argv[0] + ": no such command")
	}
	return 0, err
}

// shell is a shell of the host under a PTY that keeps all of its output.
type shell struct {
	tty *os.File
	cmd *exec.Cmd

	mu    sync.Mutex
	news  sync.Cond
	out   []byte
	ended bool
}

func startShell(cols, rows uint16) (*shell, error) {
	s := &shell{cmd: exec.Command("/bin/sh")}
	s.news.L = &s.mu
	s.cmd.Env = append(os.Environ(), "PS1=# ", "ENV=", "TERM=xterm")
	tty, err := pty.StartWithSize(s.cmd, &pty.Winsize{Cols: cols, Rows: rows})
	if err != nil {
		return nil, err
	}
	s.tty = tty
	go s.keep()
	return s, nil
}

func (s *shell) keep() {
	buf := make([]byte, 4096)
	for {
		n, err := s.tty.Read(buf)
		s.mu.Lock()
		s.out = append(s.out, buf[:n]...)
		s.ended = err != nil
		s.news.Broadcast()
		s.mu.Unlock()
		if err != nil {
			_ = s.cmd.Wait()
			return
		}
	}
}

func (s *shell) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *shell) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.tty.Close()
}

func (s *shell) attach(from int64) agent.Terminal {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &view{shell: s, next: min(max(from, 0), int64(len(s.out)))}
	v.start = v.next
	return v
}

// view is an attachment to a shell.
type view struct {
	*shell
	start, next int64
	closed      bool
}

func (v *view) Start() int64 { return v.start }

func (v *view) Read(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for int64(len(v.out)) == v.next && !v.ended && !v.closed {
		v.news.Wait()
	}
	if v.closed {
		return 0, io.ErrClosedPipe
	}
	n := copy(p, v.out[v.next:])
	v.next += int64(n)
	if n == 0 {
		return 0, agent.ErrTerminalEnded
	}
	return n, nil
}

func (v *view) Write(p []byte) (int, error) { return v.tty.Write(p) }

func (v *view) Resize(_ context.Context, cols, rows uint16) error {
	return pty.Setsize(v.tty, &pty.Winsize{Cols: cols, Rows: rows})
}

func (v *view) Prologue() []byte                     { return nil }
func (v *view) Windows() <-chan agent.TerminalWindow { return nil }
func (v *view) Leave() error                         { return v.Close() }

func (v *view) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	v.news.Broadcast()
	return nil
}
