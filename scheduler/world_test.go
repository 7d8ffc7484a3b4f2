package scheduler

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/drives"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
	"ecolink/scheduler/placement"
	"ecolink/scheduler/schedulertest"
)

const (
	alice identity.AccountID = 1
	bob   identity.AccountID = 2
)

// machine stands in for the box where only the clock matters: it behaves as the
// real one does towards the scheduler, in no time, and breaks when told to. The
// real one has its own tests.
type machine struct {
	Doors // nobody goes through them here
	*schedulertest.Volumes

	mu       sync.Mutex
	boot     string
	found    map[string]*agent.Observation
	gpus     map[string][]string // workload → GPUs that it runs with
	changes  chan string
	pullTime time.Duration
	images   []agent.StoredImage // that are here
	pullErr  error
	checkErr error
	runErr   error
	stopErr  error
	seeErr   error
	shared   string // the first GPU that two workloads had at once

	onObserve func()                      // called before the machine is looked at
	onRun     func(context.Context) error // called before a workload is run
	shift     time.Duration               // by which the box's clock was put forward
	ran       map[string]time.Duration    // of the containers that have ended, by workload
	digest    string                      // what images' names mean begins with it
	pulled    []agent.Image               // in this order
	pruned    [][]string                  // what was in use when images were removed
	workloads []agent.Workload            // that were to run
	takes     bool                        // time, a little more for each workload than for the one before
}

func newMachine() *machine {
	return &machine{digest: "sha256:", Volumes: schedulertest.NewVolumes(poolGB * drives.BytesPerGB), ran: map[string]time.Duration{}, boot: "boot-1", found: map[string]*agent.Observation{}, gpus: map[string][]string{}, changes: make(chan string, 64)}
}

func (m *machine) Changes() <-chan string { return m.changes }

func (m *machine) ResolveImage(_ context.Context, i agent.Image) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.digest + i.Name, m.checkErr
}

func (m *machine) ImportedImages(context.Context) ([]agent.StoredImage, error) {
	return m.images, nil
}

func (m *machine) PruneImages(_ context.Context, inUse []string) ([]agent.StoredImage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pruned = append(m.pruned[max(0, len(m.pruned)-100):], inUse)
	return nil, nil
}

func (m *machine) PullImage(ctx context.Context, i agent.Image, progress func(agent.PullProgress)) error {
	progress(agent.PullProgress{Layers: 1})
	m.mu.Lock()
	m.pulled = append(m.pulled[max(0, len(m.pulled)-100):], i)
	d, err := m.pullTime, m.pullErr
	m.mu.Unlock()
	select {
	case <-time.After(d):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take lets the time pass that looking at a workload takes.
func (m *machine) take(id string) {
	m.mu.Lock()
	takes := m.takes
	m.mu.Unlock()
	if n, err := strconv.Atoi(strings.TrimPrefix(id, "instance-")); takes && err == nil {
		time.Sleep(time.Duration(n) * time.Microsecond)
	}
}

func (m *machine) Run(ctx context.Context, w agent.Workload) (agent.Observation, error) {
	m.take(w.ID)
	m.mu.Lock()
	m.workloads = append(m.workloads[max(0, len(m.workloads)-100):], w)
	hook := m.onRun
	m.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return agent.Observation{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.runErr != nil {
		return agent.Observation{}, m.runErr
	}
	if o := m.found[w.ID]; o != nil && o.Presence == agent.Running {
		return *o, nil
	}
	if err := m.Mount(w); err != nil {
		return agent.Observation{}, err
	}
	for other, gpus := range m.gpus {
		for _, u := range gpus {
			for _, mine := range w.GPUs {
				if u == mine && other != w.ID {
					m.shared = u
				}
			}
		}
	}
	m.gpus[w.ID] = w.GPUs
	m.found[w.ID] = &agent.Observation{ID: w.ID, Presence: agent.Running, StartedAt: time.Now(), BootID: m.boot}
	return *m.found[w.ID], nil
}

func (m *machine) Observe(_ context.Context, id string) (agent.Observation, error) {
	m.take(id)
	m.mu.Lock()
	hook := m.onObserve
	m.mu.Unlock()
	if hook != nil {
		hook()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seeErr != nil {
		return agent.Observation{ID: id, BootID: m.boot}, m.seeErr
	}
	if o := m.found[id]; o != nil {
		seen := *o
		if seen.Presence == agent.Running {
			seen.StartedAt = seen.StartedAt.Add(m.shift)
		}
		return seen, nil
	}
	return agent.Observation{ID: id, Presence: agent.Absent, BootID: m.boot}, nil
}

func (m *machine) Remove(_ context.Context, id string, _ time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopErr != nil {
		return m.stopErr
	}
	m.ended(id)
	m.Unmount(id)
	delete(m.found, id)
	delete(m.gpus, id)
	return nil
}

// Stop ends the workload's container and keeps what it has, its GPUs left out.
func (m *machine) Stop(_ context.Context, id string, _ time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopErr != nil {
		return m.stopErr
	}
	m.ended(id)
	delete(m.gpus, id)
	if o := m.found[id]; o != nil {
		*o = agent.Observation{ID: id, Presence: agent.Absent, BootID: m.boot}
	}
	return nil
}

func (m *machine) List(context.Context) (ids []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.found {
		ids = append(ids, id)
	}
	return ids, nil
}

func (m *machine) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *machine) Terminal(context.Context, string, string, int64, uint16, uint16) (agent.Terminal, error) {
	return nil, refusal("the image has no shell")
}

func (m *machine) Exec(context.Context, string, []string, agent.Stdio) (int, error) {
	return 0, refusal("no such command")
}

func (m *machine) Dial(context.Context, string, string, string) (net.Conn, error) {
	return nil, refusal("nothing listens")
}

func (m *machine) Logs(context.Context, string, int, bool) iter.Seq2[agent.LogLine, error] {
	return func(yield func(agent.LogLine, error) bool) {}
}

// exit ends a workload's container as the kernel would.
func (m *machine) exit(id string) {
	m.set(func() {
		if o := m.found[id]; o != nil && o.Presence == agent.Running {
			m.ended(id)
			o.Presence, o.ExitedAt, o.ExitCode = agent.Exited, time.Now(), 137
		}
	})
	m.changes <- id
}

// reboot is a power cut: everything is gone and the boot ID is another.
func (m *machine) reboot() {
	m.set(func() {
		m.boot += "+"
		for id := range m.found {
			m.ended(id)
		}
		m.Volumes.Reboot()
		clear(m.found)
		clear(m.gpus)
	})
}

// ended counts what a container ran that ends now.
func (m *machine) ended(id string) {
	if o := m.found[id]; o != nil && o.Presence == agent.Running {
		m.ran[id] += time.Since(o.StartedAt)
	}
}

// realTime is how long the workload's containers have run that have ended.
func (m *machine) realTime(id string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ran[id]
}

// refusal is an error that trying again can't mend.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) Permanent() bool { return true }

// box is a scheduler over a real store, stoppable and startable.
type box struct {
	t       testing.TB
	store   *store.Store
	machine *machine
	gpus    []placement.GPU
	pace    pace // zero: the usual
	keep    keeping
	options []Option
	log     *slog.Logger
	*Scheduler
	stop func()
}

// newBox makes a box with n H100s at $1.60 and $100 for Alice, inside a synctest bubble.
func newBox(t testing.TB, n int) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "scheduler")
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(filepath.Join(dir, "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, store: st, machine: newMachine(), log: slog.New(slog.DiscardHandler)}
	for i := range n {
		b.gpus = append(b.gpus, placement.GPU{UUID: fmt.Sprintf("GPU-%d", i), Index: i, Type: "h100"})
	}
	b.update(func(tx *store.Tx) error {
		if _, err := price.Set(tx, price.GPU("h100"), usd("1.60"), time.Time{}, time.Now(), ""); err != nil {
			return err
		}
		for _, name := range []string{"alice", "bob"} {
			if _, err := identity.CreateAccount(tx, name, time.Now()); err != nil {
				return err
			}
		}
		_, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: alice, Amount: usd("100")})
		return err
	})
	b.start()
	t.Cleanup(func() { os.RemoveAll(dir) })
	return b
}

// close ends the box after checking what must always be true. It runs inside the
// bubble, where Cleanup would not.
func (b *box) close() {
	b.t.Helper()
	b.stop()
	if b.machine.shared != "" {
		b.t.Errorf("two instances had %s at once", b.machine.shared)
	}
	if err := b.store.View(func(tx *store.Tx) error { _, err := ledger.Verify(tx); return err }); err != nil {
		b.t.Error(err)
	}
	b.store.Close()
}

func (b *box) start() {
	ctx, cancel := context.WithCancel(context.Background())
	b.Scheduler = New(b.store, b.machine, b.gpus, b.log, b.options...)
	if b.pace != (pace{}) {
		b.Scheduler.pace = b.pace
	}
	if b.keep != (keeping{}) {
		b.Scheduler.keep = b.keep
	}
	done := make(chan error, 1)
	s := b.Scheduler
	go func() { done <- s.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
}

func (b *box) restart() {
	b.stop()
	b.start()
	b.settle()
}

// settle waits until nothing more happens at this moment of the fake clock. File
// writes are not seen by synctest, so the moment is made a hundredth longer.
func (b *box) settle() {
	time.Sleep(10 * time.Millisecond)
	synctest.Wait()
}

func (b *box) update(fn func(*store.Tx) error) {
	b.t.Helper()
	if err := b.store.Update(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) view(fn func(*store.Tx) error) {
	b.t.Helper()
	if err := b.store.View(fn); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) wallet(a identity.AccountID) (w ledger.Wallet) {
	b.t.Helper()
	if err := b.store.View(func(tx *store.Tx) (err error) { w, err = ledger.WalletOf(tx, a); return err }); err != nil {
		b.t.Fatal(err)
	}
	return w
}

func request(name string, hours float64) LaunchRequest {
	return LaunchRequest{Account: alice, User: 1, Name: name, GPUType: "h100", GPUCount: 1, Image: "demo/box", Hours: hours}
}

func (b *box) launch(name string, hours float64) Instance {
	b.t.Helper()
	i, err := b.Launch(context.Background(), request(name, hours))
	if err != nil {
		b.t.Fatal(err)
	}
	b.settle()
	return b.read(i.ID)
}

// extend asks for more hours for Alice's instance.
func (b *box) extend(id InstanceID, hours float64) (Extension, error) {
	return b.Extend(context.Background(), ExtendRequest{Account: alice, Instance: id, Hours: hours})
}

func (b *box) read(id InstanceID) Instance {
	b.t.Helper()
	var i Instance
	if err := b.store.View(func(tx *store.Tx) (err error) { i, err = get(tx, id); return err }); err != nil {
		b.t.Fatal(err)
	}
	return i
}

func (b *box) want(id InstanceID, st State) Instance {
	b.t.Helper()
	i := b.read(id)
	if i.State != st {
		b.t.Fatalf("instance %d is %s (%s), want %s; history %v", id, i.State, i.Problem, st, i.History)
	}
	return i
}

func (b *box) wantWallet(a identity.AccountID, available, held string) {
	b.t.Helper()
	if w := b.wallet(a); w.Available != usd(available) || w.Held != usd(held) {
		b.t.Fatalf("account %d has %s available and %s held, want %s and %s", a, w.Available, w.Held, available, held)
	}
}

func wantProblem(t testing.TB, err error, k Kind, field string) {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) || p.Kind != k || p.Field != field {
		t.Fatalf("got %v (%+v), want %s in %q", err, p, k, field)
	}
}

func usd(s string) ledger.MicroUSD {
	m, err := ledger.ParseUSD(s)
	if err != nil {
		panic(err)
	}
	return m
}

func (b *box) holdIsOpen(i Instance) (open bool) {
	b.t.Helper()
	err := b.store.View(func(tx *store.Tx) error {
		h, err := ledger.GetHold(tx, i.Hold)
		open = h.Settled == nil
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return open
}
