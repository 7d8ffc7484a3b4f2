package ssh

import (
	"context"
	"errors"
	"sync"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
)

// Programs starts programs in instances; the scheduler does.
type Programs interface {
	Start(ctx context.Context, a identity.AccountID, id scheduler.InstanceID, p agent.Program) (agent.Process, error)
}

// run runs a program with the channel as its input and output, on a PTY unless that
// is nil, and gives its exit code. It ends with the program, or the program with it.
func (s *session) run(ctx context.Context, p agent.Program, pty *window) (code int, err error) {
	if s.refusal != nil {
		return 0, s.refusal
	}
	p.Env = s.env
	p.Stdin, p.Stdout, p.Stderr = s.channel, s.channel, s.channel.Stderr()
	if pty != nil {
		p.Env = append(p.Env, "TERM="+s.term)
		p.Cols, p.Rows = pty.cols, pty.rows
	}
	process, err := s.server.inside.Start(ctx, s.entry.Account, s.entry.Instance, p)
	if err != nil {
		return 0, s.because(ctx, err)
	}
	done := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { s.steer(ctx, process, done) })
	code, err = process.Wait(ctx)
	close(done)
	others.Wait()
	if closing := process.Close(); closing != nil && s.stillRuns() == nil {
		s.server.log.Error("SSH: a command could not be cleared away", "instance", s.entry.Instance, "err", closing)
	}
	if err != nil {
		return 0, s.because(ctx, err)
	}
	return code, s.stillRuns()
}

// steer passes window sizes and signals on until the program has ended. What fails
// is of no consequence: the program has just ended, or the next size will do.
func (s *session) steer(ctx context.Context, p agent.Process, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case w := <-s.windows:
			limit, cancel := context.WithTimeout(ctx, resizeTime)
			_ = p.Resize(limit, w.cols, w.rows)
			cancel()
		case number := <-s.signals:
			limit, cancel := context.WithTimeout(ctx, resizeTime)
			_ = p.Signal(limit, number)
			cancel()
		}
	}
}

// because prefers the reason why the session was ended to the error that this made.
func (s *session) because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if ended := s.stillRuns(); ended != nil {
		return ended
	}
	return err
}

// stillRuns is nil, or why what has just ended did: with its instance.
func (s *session) stillRuns() error {
	err := s.server.gate.MayStay(s.entry)
	var problem *scheduler.Problem
	if errors.As(err, &problem) {
		return problem
	}
	return nil // it may well run, and nobody is told of our troubles for nothing
}
