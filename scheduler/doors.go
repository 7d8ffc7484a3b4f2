package scheduler

import (
	"context"
	"fmt"
	"net"

	"ecolink/agent"
	"ecolink/ledger/identity"
)

// Doors lead a person's programs into a running workload. web/ssh goes through them.
type Doors interface {
	// Start runs a program inside the workload, with or without a PTY.
	Start(ctx context.Context, id string, p agent.Program) (agent.Process, error)
	// Connect connects to a host and port as a program inside the workload would.
	Connect(ctx context.Context, id, host string, port uint16) (net.Conn, error)
	// Listen listens inside the workload's network.
	Listen(ctx context.Context, id, address string) (net.Listener, error)
	// Sessions tells of the terminal sessions that have not ended.
	Sessions(ctx context.Context, id string) ([]agent.TerminalSession, error)
	// EndSession ends one with what its shell has started on it.
	EndSession(ctx context.Context, id, session string) (found bool, err error)
	// SessionExit is the exit code of a session that has, if it is known.
	SessionExit(ctx context.Context, id, session string) (code int, known bool)
}

// Start starts a program as root inside a running instance. The caller closes the
// process.
func (s *Scheduler) Start(ctx context.Context, a identity.AccountID, id InstanceID, p agent.Program) (agent.Process, error) {
	i, err := s.mustRun(a, id, "a command runs")
	if err != nil {
		return nil, err
	}
	process, err := s.machine.Start(ctx, i.Workload(), p)
	if permanent(err) {
		return nil, &Problem{Kind: Unprocessable, Field: "command", Message: fmt.Sprintf("instance %d: %v", id, err), Err: err}
	}
	return process, err
}

// Connect connects to a host and port as a program inside a running instance would.
func (s *Scheduler) Connect(ctx context.Context, a identity.AccountID, id InstanceID, host string, port uint16) (net.Conn, error) {
	i, err := s.mustRun(a, id, "a connection is forwarded")
	if err != nil {
		return nil, err
	}
	return s.machine.Connect(ctx, i.Workload(), host, port)
}

// Listen listens inside the network of a running instance.
func (s *Scheduler) Listen(ctx context.Context, a identity.AccountID, id InstanceID, address string) (net.Listener, error) {
	i, err := s.mustRun(a, id, "a port is forwarded")
	if err != nil {
		return nil, err
	}
	return s.machine.Listen(ctx, i.Workload(), address)
}

// Sessions tells of the terminal sessions of a running instance that have not ended.
func (s *Scheduler) Sessions(ctx context.Context, a identity.AccountID, id InstanceID) ([]agent.TerminalSession, error) {
	i, err := s.mustRun(a, id, "it has sessions")
	if err != nil {
		return nil, err
	}
	return s.machine.Sessions(ctx, i.Workload())
}

// EndSession ends a terminal session of a running instance with what its shell has
// started on it; found is false when there is none.
func (s *Scheduler) EndSession(ctx context.Context, a identity.AccountID, id InstanceID, session string) (found bool, err error) {
	i, err := s.mustRun(a, id, "it has sessions")
	if err != nil || !sessionPattern.MatchString(session) { // a name that is none could be a way elsewhere
		return false, err
	}
	return s.machine.EndSession(ctx, i.Workload(), session)
}

// SessionExit is the exit code of the shell of a session that has ended, if it is
// known.
func (s *Scheduler) SessionExit(ctx context.Context, a identity.AccountID, id InstanceID, session string) (code int, known bool) {
	i, err := s.Get(a, id)
	if err != nil {
		return 0, false
	}
	return s.machine.SessionExit(ctx, i.Workload(), session)
}
