package terminal

import "context"

// ExitCode is the exit code of a session that has ended, unless it is not known
// any more.
func (s *Sessions) ExitCode(ctx context.Context, container, name string) (code int, known bool) {
	return s.shells.ExitCode(ctx, container, process(name))
}
