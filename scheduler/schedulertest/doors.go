package schedulertest

import (
	"context"
	"net"

	"ecolink/agent"
)

// errNoDoors is for what takes a real machine.
const errNoDoors = Refusal("workloads in memory have nothing to enter")

// Start refuses: nothing runs here.
func (w *Workloads) Start(context.Context, string, agent.Program) (agent.Process, error) {
	return nil, errNoDoors
}

// Connect refuses.
func (w *Workloads) Connect(context.Context, string, string, uint16) (net.Conn, error) {
	return nil, errNoDoors
}

// Listen refuses.
func (w *Workloads) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, errNoDoors
}

// Sessions knows none.
func (w *Workloads) Sessions(context.Context, string) ([]agent.TerminalSession, error) {
	return nil, nil
}

// EndSession finds none.
func (w *Workloads) EndSession(context.Context, string, string) (found bool, err error) {
	return false, nil
}

// SessionExit knows nothing.
func (w *Workloads) SessionExit(context.Context, string, string) (code int, known bool) {
	return 0, false
}
