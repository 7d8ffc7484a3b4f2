package schedulertest

import (
	"context"
	"net"
	"sync"
	"time"

	"ecolink/agent"
)

// BootID is the boot that all workloads are of.
const BootID = "boot"

// Refusal is an error that trying again can't mend.
type Refusal string

// Error is the refusal itself.
func (r Refusal) Error() string { return string(r) }

// Permanent says that trying again is no use.
func (Refusal) Permanent() bool { return true }

// Workloads are the scheduler's Workloads in memory, with their change feed. It is
// safe for concurrent use; make one by New.
type Workloads struct {
	*Volumes
	mu      sync.Mutex
	found   map[string]*agent.Observation
	changes chan string
	images  []agent.StoredImage
}

// poolBytes is the room that New has for volumes.
const poolBytes = 10_000_000_000_000

// New has no workloads yet.
func New() *Workloads {
	return &Workloads{Volumes: NewVolumes(poolBytes), found: map[string]*agent.Observation{}, changes: make(chan string, 64)}
}

// Changes gives the name of a workload that has ended.
func (w *Workloads) Changes() <-chan string { return w.changes }

// Run has the workload run, unless it does or did already.
func (w *Workloads) Run(_ context.Context, load agent.Workload) (agent.Observation, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.found[load.ID]
	if o == nil || o.Presence == agent.Absent {
		if err := w.Mount(load); err != nil {
			return agent.Observation{}, err
		}
		o = &agent.Observation{ID: load.ID, Presence: agent.Running, StartedAt: time.Now(), BootID: BootID}
		w.found[load.ID] = o
	}
	return *o, nil
}

// Observe says how the workload is.
func (w *Workloads) Observe(_ context.Context, id string) (agent.Observation, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.found[id]; o != nil {
		return *o, nil
	}
	return agent.Observation{ID: id, Presence: agent.Absent, BootID: BootID}, nil
}

// Stop ends the workload's first process, and knows nothing of how.
func (w *Workloads) Stop(_ context.Context, id string, _ time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.found[id] != nil {
		w.found[id] = &agent.Observation{ID: id, Presence: agent.Absent, BootID: BootID}
	}
	return nil
}

// Remove forgets the workload.
func (w *Workloads) Remove(_ context.Context, id string, _ time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Unmount(id)
	delete(w.found, id)
	return nil
}

// List names all workloads.
func (w *Workloads) List(context.Context) (ids []string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.found {
		ids = append(ids, id)
	}
	return ids, nil
}

// EndCommand ends the workload's start command. Its first process goes on, and the
// next look at it tells.
func (w *Workloads) EndCommand(id string, end agent.CommandEnd) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.found[id]; o != nil {
		o.Command = &end
	}
}

// Exit ends the workload's first process, as by itself.
func (w *Workloads) Exit(id string) {
	w.mu.Lock()
	if o := w.found[id]; o != nil {
		o.Presence, o.ExitedAt = agent.Exited, time.Now()
	}
	w.mu.Unlock()
	w.changes <- id
}

// Dial connects to the address on the test's own machine, as if all workloads
// shared its network.
func (w *Workloads) Dial(ctx context.Context, _, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}
