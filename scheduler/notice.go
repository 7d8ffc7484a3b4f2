package scheduler

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/agent"
	"ecolink/ledger/store"
)

// CommandEnd is how an instance's start command ended, in its latest spell of
// running. The instance goes on without it.
type CommandEnd struct {
	At     time.Time `json:"at"`
	Code   int       `json:"code,omitempty"`
	Signal int       `json:"signal,omitempty"`
	Error  string    `json:"error,omitempty"` // why it could not start
}

// Failed tells whether it ended in any other way than with success.
func (e CommandEnd) Failed() bool { return e.Error != "" || e.Signal != 0 || e.Code != 0 }

// ContainerEnd is how an instance's container ended by itself.
type ContainerEnd struct {
	Code uint32 `json:"code"` // 128 and a signal's number, when one ended it
}

// Notices says in sentences what happened inside the instance that its user did
// not ask for, most telling first.
func (i Instance) Notices() (out []string) {
	if words := i.preemptionWords(); words != "" {
		out = append(out, words)
	}
	if e := i.ContainerEnd; e != nil {
		out = append(out, i.containerWords(*e))
	}
	if e := i.CommandEnd; e != nil {
		out = append(out, i.commandWords(*e))
	}
	if i.OOMKills > 0 {
		out = append(out, fmt.Sprintf("The kernel ended a process of this instance for want of memory%s%s. Use less, or launch with more GPUs, which bring more memory.",
			counted(i.OOMKills), i.memoryLimit()))
	}
	return out
}

// preemptionWords tells of the last time that its GPUs were taken from it.
func (i Instance) preemptionWords() string {
	var at, back time.Time
	for _, c := range i.History {
		switch {
		case c.State == Preempted:
			at, back = c.At, time.Time{}
		case c.State == Running && back.IsZero():
			back = c.At
		}
	}
	const form = "2 January, 15:04 MST"
	switch {
	case at.IsZero() || !i.billable():
		return ""
	case i.State == Preempted:
		return fmt.Sprintf("Preempted on %s: a request of a higher class needed its GPUs. Its files are kept and its time stands still. It goes on by itself when %d × %s %s free.",
			at.Format(form), i.GPUCount, i.GPUType, map[bool]string{true: "is", false: "are"}[i.GPUCount == 1])
	case back.Before(at): // it is being started
		return ""
	default:
		return fmt.Sprintf("It was preempted on %s and goes on since %s: its files are as they were, its programs were started anew.", at.Format(form), back.Format(form))
	}
}

func (i Instance) containerWords(e ContainerEnd) string {
	switch {
	case i.OOMKills > 0 && e.Code == 128+uint32(unix.SIGKILL):
		return "The container was killed: out of memory" + i.memoryLimit() + "."
	case e.Code > 128 && e.Code <= 128+64:
		return fmt.Sprintf("The container's first process was ended by %s.", signalWords(int(e.Code)-128))
	default:
		return fmt.Sprintf("The container's first process ended with exit code %d.", e.Code)
	}
}

func (i Instance) commandWords(e CommandEnd) string {
	goesOn, see := " The instance goes on without it.", " See the output."
	if !i.billable() { // its output ends with it
		goesOn, see = "", ""
	}
	switch {
	case e.Error != "":
		return fmt.Sprintf("The start command could not start: %s.", strings.TrimSuffix(e.Error, ".")) + goesOn
	case e.Signal == int(unix.SIGKILL) && i.OOMKills > 0:
		return "The start command was killed: out of memory" + i.memoryLimit() + "." + goesOn
	case e.Signal != 0:
		return fmt.Sprintf("The start command was ended by %s.", signalWords(e.Signal)) + goesOn
	case e.Code == 0:
		return "The start command ended, with success." + goesOn
	}
	why := ""
	switch e.Code { // POSIX, 2.8.2: what shells make of it
	case 126:
		why = ": something in it can't be executed"
	case 127:
		why = ": a program in it was not found"
	case 137:
		why = ": a process in it was killed"
		if i.OOMKills > 0 {
			why += ", out of memory" + i.memoryLimit()
		}
	}
	return fmt.Sprintf("The start command ended with exit code %d%s.", e.Code, why) + see + goesOn
}

// memoryLimit says the limit that was reached, for the end of a sentence.
func (i Instance) memoryLimit() string {
	if i.Resources.MemoryBytes == 0 {
		return ""
	}
	return " (limit " + spellBytes(i.Resources.MemoryBytes) + ")"
}

func counted(n int64) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf(", %d times", n)
}

// signalWords names a signal and says what it is about, where the name does not.
func signalWords(n int) string {
	name := unix.SignalName(unix.Signal(n))
	if name == "" {
		return fmt.Sprintf("signal %d", n)
	}
	about := map[unix.Signal]string{
		unix.SIGSEGV: "a crash: it used memory that it does not have",
		unix.SIGBUS:  "a crash: memory was not there; /dev/shm may be full",
		unix.SIGABRT: "it gave up by itself",
		unix.SIGILL:  "a crash: this CPU lacks an instruction",
		unix.SIGFPE:  "a crash: an impossible calculation",
		unix.SIGKILL: "somebody killed it",
		unix.SIGSYS:  "it made a system call that containers may not make",
	}[unix.Signal(n)]
	if about != "" {
		name += " (" + about + ")"
	}
	return name
}

// noteEvents records what a look at a running instance has told about its inside.
func (s *Scheduler) noteEvents(ctx context.Context, i Instance, seen agent.Observation) error {
	if !i.news(seen) {
		return nil
	}
	return s.store.Update(ctx, func(tx *store.Tx) error {
		fresh, err := get(tx, i.ID)
		if err != nil || fresh.State != Running || !fresh.news(seen) {
			return err
		}
		fresh.learn(seen)
		return put(tx, fresh)
	})
}

// news tells whether an observation knows more than the record.
func (i Instance) news(seen agent.Observation) bool {
	before := i
	i.learn(seen)
	return i.OOMKills != before.OOMKills || i.CommandEnd != before.CommandEnd
}

// learn takes over what an observation knows. Counts of a container begin anew
// with each start of it, and are not known when they are 0. A command ends once: who
// is root inside could tell of another end each moment, and have each written down.
func (i *Instance) learn(seen agent.Observation) {
	i.OOMKills = max(i.OOMKills, seen.OOMKills)
	if c := seen.Command; c != nil && i.CommandEnd == nil {
		i.CommandEnd = &CommandEnd{At: c.At.UTC(), Code: c.Code, Signal: c.Signal, Error: c.Error}
	}
}
