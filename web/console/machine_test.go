package console

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"ecolink/agent"
	"ecolink/scheduler/schedulertest"
)

// machine stands in for the box: containers are entries of a map, images pull
// when they are let, and each workload has a log and one shell in memory. It
// behaves towards the scheduler as the real one does, which has its own tests.
type machine struct {
	*schedulertest.Workloads

	mu      sync.Mutex
	changed *sync.Cond
	logs    map[string][]agent.LogLine
	shells  map[string]*shell
	pulling agent.PullProgress // reported while holdPulls is set
	hold    bool               // pulls wait
}

func newMachine() *machine {
	m := &machine{Workloads: schedulertest.New(), logs: map[string][]agent.LogLine{}, shells: map[string]*shell{}}
	m.changed = sync.NewCond(&m.mu)
	return m
}

func (m *machine) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	m.changed.Broadcast()
}

// wait waits until ok or until ctx ends. m.mu is held.
func (m *machine) wait(ctx context.Context, ok func() bool) error {
	stop := context.AfterFunc(ctx, func() { m.set(func() {}) })
	defer stop()
	for !ok() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.changed.Wait()
	}
	return nil
}

func (m *machine) ResolveImage(ctx context.Context, i agent.Image) (string, error) {
	if i.Name == "slow/registry:1" {
		<-ctx.Done()
		return "", ctx.Err()
	}
	if i.Name == "no/such:image" {
		return "", schedulertest.Refusal("the registry does not have it: check its name")
	}
	return schedulertest.Digest(i.Name), nil
}

func (m *machine) PullImage(ctx context.Context, i agent.Image, progress func(agent.PullProgress)) error {
	if i.Name == "no/longer:there" {
		return schedulertest.Refusal("<b>gone</b>")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hold {
		p := m.pulling
		m.mu.Unlock()
		progress(p)
		m.mu.Lock()
	}
	return m.wait(ctx, func() bool { return !m.hold })
}

func (m *machine) Run(ctx context.Context, w agent.Workload) (agent.Observation, error) {
	m.set(func() {
		if m.shells[w.ID] == nil {
			m.shells[w.ID] = &shell{machine: m}
		}
	})
	return m.Workloads.Run(ctx, w)
}

func (m *machine) Remove(ctx context.Context, id string, grace time.Duration) error {
	m.set(func() {
		if s := m.shells[id]; s != nil {
			s.ended = true
		}
	})
	return m.Workloads.Remove(ctx, id, grace)
}

func (m *machine) Exec(context.Context, string, []string, agent.Stdio) (int, error) {
	return 0, schedulertest.Refusal("no such command")
}

func (m *machine) Logs(ctx context.Context, id string, tail int, follow bool) iter.Seq2[agent.LogLine, error] {
	return func(yield func(agent.LogLine, error) bool) {
		m.mu.Lock()
		at := max(0, len(m.logs[id])-tail)
		m.mu.Unlock()
		for {
			m.mu.Lock()
			if follow {
				if err := m.wait(ctx, func() bool { return at < len(m.logs[id]) }); err != nil {
					m.mu.Unlock()
					return
				}
			}
			fresh := m.logs[id][at:]
			m.mu.Unlock()
			for _, l := range fresh {
				if !yield(l, nil) {
					return
				}
			}
			at += len(fresh)
			if !follow {
				return
			}
		}
	}
}

func (m *machine) print(id, stream, text string) {
	m.set(func() {
		m.logs[id] = append(m.logs[id], agent.LogLine{Time: time.Now(), Stream: stream, Text: text})
	})
}

// shell is a session of one workload that echoes what is typed.
type shell struct {
	machine *machine
	output  []byte
	ended   bool
}

func (m *machine) Terminal(_ context.Context, id, _ string, from int64, _, _ uint16) (agent.Terminal, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shells[id]
	if s == nil {
		return nil, errors.New("no such workload")
	}
	if s.ended {
		s.output, s.ended = nil, false
	}
	if len(s.output) == 0 {
		s.output = []byte("root@box:/# ")
	}
	if from < 0 || from > int64(len(s.output)) {
		from = 0
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &view{shell: s, start: from, at: int(from), ctx: ctx, cancel: cancel}, nil
}

type view struct {
	shell  *shell
	start  int64
	at     int
	ctx    context.Context
	cancel context.CancelFunc
}

func (v *view) Start() int64 { return v.start }

func (v *view) Read(p []byte) (int, error) {
	m := v.shell.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.wait(v.ctx, func() bool { return v.at < len(v.shell.output) || v.shell.ended }); err != nil {
		return 0, io.ErrClosedPipe
	}
	if v.at < len(v.shell.output) {
		n := copy(p, v.shell.output[v.at:])
		v.at += n
		return n, nil
	}
	return 0, agent.ErrTerminalEnded
}

// Write echoes, and ends the session at a Ctrl+D.
func (v *view) Write(p []byte) (int, error) {
	v.shell.machine.set(func() {
		for _, b := range p {
			switch b {
			case 4:
				v.shell.ended = true
			case '\r':
				v.shell.output = append(v.shell.output, "\r\nroot@box:/# "...)
			default:
				v.shell.output = append(v.shell.output, b)
			}
		}
	})
	return len(p), nil
}

func (v *view) Resize(context.Context, uint16, uint16) error { return nil }
func (v *view) Prologue() []byte                             { return nil }
func (v *view) Windows() <-chan agent.TerminalWindow         { return nil }
func (v *view) Leave() error                                 { return v.Close() }

func (v *view) Close() error {
	v.cancel()
	return nil
}
