package initproc

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// recheckInterval is how often, while stopping, we look for processes that are
// not our children, whose end no SIGCHLD tells us about.
const recheckInterval = 50 * time.Millisecond

// signalQueue bounds the signals that wait to be handled; the kernel merges
// equal ones anyway.
const signalQueue = 32

// forwarded returns the signals that go to the start command's process group.
// SIGTERM is not among them: it stops the whole container.
func forwarded() []os.Signal {
	return []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
	}
}

// harmless returns the signals that would end a Go program by default. Process
// 1 takes the container with it, so it must not die by `kill -ALRM 1` or by
// writing to a log that nobody reads any more. They are caught and dropped, not
// ignored: an ignored signal would stay ignored in the start command. Of the
// faults (SIGSEGV and the like) this drops only those that somebody sent; a
// real one still ends the program.
func harmless() []os.Signal {
	return []os.Signal{
		syscall.SIGABRT, syscall.SIGALRM, syscall.SIGBUS, syscall.SIGFPE,
		syscall.SIGILL, syscall.SIGIO, syscall.SIGPIPE, syscall.SIGPROF,
		syscall.SIGPWR, syscall.SIGSEGV, syscall.SIGSTKFLT, syscall.SIGSYS,
		syscall.SIGTRAP, syscall.SIGVTALRM, syscall.SIGXCPU, syscall.SIGXFSZ,
	}
}

// Run is the `init` role. args is what follows the word `init`: an optional
// `--report FILE` for the end of the start command, an optional `--`, then the
// start command and its arguments, or nothing. It returns the
// process's exit code: 0 after a stop, 2 when it is not process 1.
//
// The container's life, with the signals that move it:
//
//	started ── the command exits or can't start ──► idle
//	started ── SIGTERM ──► stopping ── everybody is gone ──► exit 0
//	started ── SIGINT ──► leaving ── the command exits ──► stopping
//	idle    ── SIGTERM, SIGINT ──► stopping
//
// SIGINT first goes to the start command alone, so that it is not sent two
// different signals at once; SIGTERM goes to every process of the container.
func Run(args []string) int {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "ecolink-keeper init: must be process 1 of a container: stopping it ends every process that it can see")
		return 2
	}
	b := &box{}
	if len(args) > 1 && args[0] == "--report" {
		b.report, args = args[1], args[2:]
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}

	// Registered before the command starts, so that its death can't be missed.
	// SIGCHLD has its own channel of one: each receive reaps all there is, and
	// a burst of deaths must not push a SIGTERM out of the queue.
	deaths := make(chan os.Signal, 1)
	signal.Notify(deaths, syscall.SIGCHLD)
	signals := make(chan os.Signal, signalQueue)
	signal.Notify(signals, syscall.SIGTERM)
	signal.Notify(signals, forwarded()...)
	signal.Notify(signals, harmless()...)
	reserveThreads(spareThreads)

	if len(args) > 0 {
		b.launch(args)
	}
	var recheck <-chan time.Time
	for {
		select {
		case <-deaths:
		case s := <-signals:
			b.handle(s.(syscall.Signal))
		case <-recheck:
		}
		childless := b.reap()
		if b.stopping {
			if childless && !anyoneHeedsTerm() {
				return 0
			}
			recheck = time.After(recheckInterval)
		}
	}
}

// box is the state of the container's process 1. Only Run's goroutine uses it.
type box struct {
	command  int    // pid and process group of the start command, 0 when it is not running
	leaving  bool   // SIGINT came while the command was running: stop when it exits
	stopping bool   // everybody was told to end
	report   string // file that tells how the command ended; may be empty
}

func (b *box) launch(argv []string) {
	pid, err := start(argv)
	if err != nil {
		say(fmt.Sprintf("ecolink: start command could not start: %v; the instance goes on", err))
		b.tell(ended{why: err.Error()})
		return
	}
	b.command = pid
}

func (b *box) handle(s syscall.Signal) {
	switch s {
	case syscall.SIGTERM:
		b.stop()
	case syscall.SIGINT:
		if b.command == 0 {
			b.stop()
			return
		}
		b.leaving = true
		b.forward(s)
	case syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH:
		b.forward(s)
	}
}

// forward signals the command's group, and only while we have not reaped its
// leader: afterwards the number may belong to somebody else.
func (b *box) forward(s syscall.Signal) {
	if b.command != 0 {
		_ = syscall.Kill(-b.command, s) // the group may be gone already: nothing to tell
	}
}

// stop asks every process of the container to end. From process 1 of a PID
// namespace, -1 means all others in that namespace. SIGCONT follows because a
// stopped process (Ctrl-Z) does not see its SIGTERM before it continues.
func (b *box) stop() {
	b.stopping = true
	_ = syscall.Kill(-1, syscall.SIGTERM) // ESRCH: we are alone
	_ = syscall.Kill(-1, syscall.SIGCONT)
}

// reap collects every child that has ended, orphans included, and reports
// whether no child is left.
func (b *box) reap() (childless bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil: // ECHILD
			return true
		case pid == 0:
			return false
		case pid == b.command:
			b.command = 0
			b.commandEnded(status)
		}
	}
}

func (b *box) commandEnded(status syscall.WaitStatus) {
	switch {
	case b.stopping:
	case b.leaving:
		b.stop()
	default:
		say(fmt.Sprintf("ecolink: start command %s; the instance goes on", outcome(status)))
		if status.Signaled() {
			b.tell(ended{signal: int(status.Signal())})
		} else {
			b.tell(ended{code: status.ExitStatus()})
		}
	}
}

// say writes one line into the container's log. It does not wait: stderr is a
// pipe, and a process 1 that is stuck in a write reaps nobody.
func say(line string) {
	go func() { _, _ = os.Stderr.WriteString(line + "\n") }()
}

// ended is how the start command ended.
type ended struct {
	code, signal int    // its exit code, or what ended it
	why          string // it could not even start
}

// tell writes the report: `TIME CODE SIGNAL WHY`. The file appears whole, and
// somebody may be waiting for it to. Without it the line in the log is all that
// tells.
func (b *box) tell(e ended) {
	if b.report == "" {
		return
	}
	text := fmt.Sprintf("%s %d %d %s\n", time.Now().UTC().Format(time.RFC3339Nano), e.code, e.signal, e.why)
	part := b.report + ".part"
	if os.WriteFile(part, []byte(text), 0o644) == nil {
		_ = os.Rename(part, b.report)
	}
}
