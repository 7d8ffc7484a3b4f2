package ssh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/crypto/ssh"

	"ecolink/agent"
	"ecolink/scheduler"
)

// failureCode is what ssh's own exit code is when something is wrong with ssh.
const failureCode = 255

// window is a size in characters.
type window struct{ cols, rows uint16 }

// session is a channel in which a shell, a command or sftp runs.
type session struct {
	*connection
	channel ssh.Channel
	env     []string
	term    string // with a PTY
	pty     *window
	windows chan window         // the latest size, for who runs
	signals chan syscall.Signal // for who runs
	typing  sync.WaitGroup      // reads the channel until it is closed
}

// session serves one channel until both sides have closed it.
func (c *connection) session(channel ssh.NewChannel) {
	ch, requests, err := channel.Accept()
	if err != nil {
		return
	}
	s := &session{connection: c, channel: ch, windows: make(chan window, 1), signals: make(chan syscall.Signal, 8)}
	ctx, cancel := context.WithCancelCause(c.ctx)
	var running sync.WaitGroup
	var begun atomic.Bool
	stop := context.AfterFunc(c.ctx, func() {
		if !begun.Load() { // nothing is there that could say why
			_ = ch.Close()
		}
	})
	defer stop()
	for r := range requests {
		ok := false
		var job func(context.Context) (int, error)
		switch r.Type {
		case "env":
			ok = !begun.Load() && s.setEnv(r.Payload)
		case "pty-req":
			ok = !begun.Load() && s.setTerminal(r.Payload)
		case "window-change":
			ok = s.resize(r.Payload)
		case "signal":
			ok = s.signal(r.Payload)
		case "shell":
			job = s.shell
		case "exec":
			job = s.exec(r.Payload)
		case "subsystem":
			job = s.subsystem(r.Payload)
		default:
			// Forwarded agents and X11 among them: nothing in a container could use
			// them without being able to abuse them.
		}
		begins := job != nil && !begun.Swap(true)
		if r.WantReply {
			_ = r.Reply(ok || begins, nil)
		}
		if begins { // after the answer, which nobody reads behind the channel's end
			running.Go(func() { s.finish(job(ctx)) })
		}
	}
	cancel(errLeft)
	running.Wait()
	_ = ch.Close()
	s.typing.Wait()
}

// finish says how what ran has ended.
func (s *session) finish(code int, err error) {
	if errors.Is(err, errLeft) {
		_ = s.channel.Close()
		return
	}
	if err != nil {
		code = failureCode
		s.tell(s.explain(err))
	}
	_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
	_ = s.channel.Close()
}

// tell writes a line for the person.
func (s *session) tell(line string) {
	end := "\n"
	if s.pty != nil {
		end = "\r\n" // their terminal is in raw mode
	}
	_, _ = fmt.Fprintf(s.channel.Stderr(), "EcoLink: %s%s", line, end)
}

func (s *session) setEnv(payload []byte) bool {
	var v struct{ Name, Value string }
	if ssh.Unmarshal(payload, &v) != nil || len(s.env) >= maxEnv || len(v.Value) > maxEnvBytes || strings.ContainsRune(v.Value, 0) || !wantedEnv(v.Name) {
		return false
	}
	s.env = append(s.env, v.Name+"="+v.Value)
	return true
}

// wantedEnv tells which variables a client may set: those that clients send by
// themselves and that change no more than how things look.
func wantedEnv(name string) bool {
	if category, ok := strings.CutPrefix(name, "LC_"); ok {
		return category != "" && len(category) < 32 && strings.Trim(category, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == ""
	}
	return name == "LANG" || name == "COLORTERM" || name == "NO_COLOR"
}

func (s *session) setTerminal(payload []byte) bool {
	var v struct {
		Term          string
		Cols, Rows    uint32
		Width, Height uint32 // in pixels
		Modes         string
	}
	if s.pty != nil || ssh.Unmarshal(payload, &v) != nil || len(v.Term) > maxTermBytes || strings.ContainsAny(v.Term, "=\x00/") {
		return false
	}
	s.pty = new(sizeOf(v.Cols, v.Rows))
	if s.term = v.Term; s.term == "" {
		s.term = "xterm-256color"
	}
	return true
}

// sizeOf is a usable size for one that a client names; some name 0 by 0.
func sizeOf(cols, rows uint32) window {
	if cols == 0 || rows == 0 {
		cols, rows = 80, 24
	}
	return window{uint16(min(cols, maxSide)), uint16(min(rows, maxSide))}
}

func (s *session) resize(payload []byte) bool {
	var v struct{ Cols, Rows, Width, Height uint32 }
	if s.pty == nil || ssh.Unmarshal(payload, &v) != nil {
		return false
	}
	w := sizeOf(v.Cols, v.Rows)
	for { // only the latest counts
		select {
		case s.windows <- w:
			return true
		default:
		}
		select {
		case <-s.windows:
		default:
		}
	}
}

func (s *session) signal(payload []byte) bool {
	var v struct{ Name string }
	if ssh.Unmarshal(payload, &v) != nil {
		return false
	}
	number, ok := map[ssh.Signal]syscall.Signal{
		ssh.SIGABRT: syscall.SIGABRT, ssh.SIGALRM: syscall.SIGALRM, ssh.SIGFPE: syscall.SIGFPE, ssh.SIGHUP: syscall.SIGHUP,
		ssh.SIGILL: syscall.SIGILL, ssh.SIGINT: syscall.SIGINT, ssh.SIGKILL: syscall.SIGKILL, ssh.SIGPIPE: syscall.SIGPIPE,
		ssh.SIGQUIT: syscall.SIGQUIT, ssh.SIGSEGV: syscall.SIGSEGV, ssh.SIGTERM: syscall.SIGTERM,
		ssh.SIGUSR1: syscall.SIGUSR1, ssh.SIGUSR2: syscall.SIGUSR2,
	}[ssh.Signal(v.Name)]
	if !ok {
		return false
	}
	select {
	case s.signals <- number:
		return true
	default:
		return false // it has many that it did not get to
	}
}

// exec is the job of a command line.
func (s *session) exec(payload []byte) func(context.Context) (int, error) {
	var v struct{ Line string }
	if ssh.Unmarshal(payload, &v) != nil || strings.ContainsRune(v.Line, 0) {
		return nil
	}
	return func(ctx context.Context) (int, error) { return s.run(ctx, agent.Program{Line: v.Line}, s.pty) }
}

// subsystem is the job of serving files, which is the only one that there is.
func (s *session) subsystem(payload []byte) func(context.Context) (int, error) {
	var v struct{ Name string }
	if ssh.Unmarshal(payload, &v) != nil || v.Name != "sftp" {
		return nil
	}
	return func(ctx context.Context) (int, error) {
		code, err := s.run(ctx, agent.Program{Argv: []string{agent.SFTPServer}}, nil)
		var problem *scheduler.Problem
		if errors.As(err, &problem) && problem.Kind == scheduler.Unprocessable { // it is not there
			err = &scheduler.Problem{Kind: problem.Kind, Err: err, Message: fmt.Sprintf("%v was started by an older EcoLink, and has no sftp: copy with `scp -O`, or launch another one", s.entry)}
		}
		return code, err
	}
}
