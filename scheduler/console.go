package scheduler

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

var sessionPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// MainSession is the shell session that a terminal opens when it names none.
const MainSession = "main"

// Terminal attaches to a root shell of a running instance; several may attach
// to one session. `from` is the absolute offset of the first output byte wanted,
// below zero all that is kept. The caller closes the terminal; the shell lives on.
func (s *Scheduler) Terminal(ctx context.Context, a identity.AccountID, id InstanceID, session string, from int64, cols, rows uint16) (agent.Terminal, error) {
	if session == "" {
		session = MainSession
	}
	if !sessionPattern.MatchString(session) {
		return nil, &Problem{Kind: Unprocessable, Field: "session", Message: "a session's name is 1 to 32 lower-case letters, digits and hyphens"}
	}
	i, err := s.mustRun(a, id, "a terminal opens")
	if err != nil {
		return nil, err
	}
	t, err := s.machine.Terminal(ctx, i.Workload(), session, from, cols, rows)
	if errors.Is(err, agent.ErrTooManyTerminals) {
		return nil, &Problem{Kind: Conflict, Field: "session", Message: fmt.Sprintf("instance %d: %v", id, err), Err: err}
	}
	if permanent(err) {
		return nil, &Problem{Kind: Unprocessable, Field: "image", Message: fmt.Sprintf("instance %d: %v", id, err), Err: err}
	}
	return t, err
}

// Exec runs a command as root inside a running instance and gives its exit code.
// It ends when ctx does.
func (s *Scheduler) Exec(ctx context.Context, a identity.AccountID, id InstanceID, argv []string, io agent.Stdio) (code int, err error) {
	if len(argv) == 0 || argv[0] == "" {
		return 0, &Problem{Kind: Unprocessable, Field: "command", Message: "name a command to run"}
	}
	if err := checkProcess(LaunchRequest{Command: argv}); err != nil {
		return 0, err
	}
	i, err := s.mustRun(a, id, "a command runs")
	if err != nil {
		return 0, err
	}
	code, err = s.machine.Exec(ctx, i.Workload(), argv, io)
	if permanent(err) {
		return 0, &Problem{Kind: Unprocessable, Field: "command", Message: fmt.Sprintf("instance %d: %v", id, err), Err: err}
	}
	return code, err
}

// mustRun reads an instance and refuses one that is not running.
func (s *Scheduler) mustRun(a identity.AccountID, id InstanceID, what string) (Instance, error) {
	i, err := s.Get(a, id)
	if err == nil && i.State != Running {
		err = &Problem{Kind: Conflict, Message: fmt.Sprintf("instance %d is %s: %s while it is running", id, i.State, what)}
	}
	return i, err
}

// Logs yields the last `tail` lines of an instance's output (0: all that is
// kept), and with follow goes on until ctx ends. Output is kept while the
// instance lives.
func (s *Scheduler) Logs(ctx context.Context, a identity.AccountID, id InstanceID, tail int, follow bool) (iter.Seq2[agent.LogLine, error], error) {
	i, err := s.Get(a, id)
	if err != nil {
		return nil, err
	}
	return s.machine.Logs(ctx, i.Workload(), tail, follow), nil
}

// GPU is a GPU of this box and who has it.
type GPU struct {
	UUID     string
	Index    int
	Type     string
	Instance InstanceID         // 0 when free
	Account  identity.AccountID // of the instance
}

// GPUs lists the box's GPUs with their present owners.
func (s *Scheduler) GPUs() ([]GPU, error) {
	out := make([]GPU, len(s.gpus))
	at := map[string]int{}
	for n, g := range s.gpus {
		out[n] = GPU{UUID: g.UUID, Index: g.Index, Type: g.Type}
		at[g.UUID] = n
	}
	err := s.store.View(func(tx *store.Tx) error {
		live, err := everyLive(tx)
		for _, i := range live {
			for _, u := range i.GPUs {
				if n, ok := at[u]; ok {
					out[n].Instance, out[n].Account = i.ID, i.Account
				}
			}
		}
		return err
	})
	return out, err
}
