package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ecolink/agent"
	"ecolink/ledger/drives"
	"ecolink/ledger/registries"
	"ecolink/ledger/store"
	"ecolink/scheduler/placement"
)

// Times of the reconcile loop.
const (
	// watchdogTime is how long an instance may take from its GPUs to running.
	watchdogTime = 15 * time.Minute
	// heartbeat is how often a running instance is looked at although nothing has
	// happened, and how much running time can at most go unbilled when the box
	// loses power.
	heartbeat = 30 * time.Second
	// placingEvery is how often those who wait for GPUs are looked at although
	// nothing has happened.
	placingEvery = 15 * time.Second
	// clockStep is how far the machine's word on when a container began may be
	// from the record. Starting one takes a while; more than this is a clock that
	// was set.
	clockStep = time.Minute
	// stopGrace is how long a container has between SIGTERM and SIGKILL.
	stopGrace = 10 * time.Second
	retryMin  = time.Second
	retryMax  = 30 * time.Second
)

// Scheduler runs the box's instances. Its methods may be called from many goroutines.
type Scheduler struct {
	store   *store.Store
	machine Machine
	gpus    []placement.GPU
	log     *slog.Logger
	pace    pace
	keep    keeping
	// preemptAfter is how long an instance is safe from being preempted at first.
	preemptAfter time.Duration
	logins       *registries.Book // for registries; nil: nobody has any
	perGPU       agent.Resources  // that go with each GPU

	mu          sync.Mutex
	workers     map[InstanceID]*worker
	progress    map[InstanceID]agent.PullProgress
	subscribers map[chan struct{}]struct{}
	volumes     map[DriveID]*volumeWorker
	volumeTurns turns          // of those that the machine works on
	promising   chan struct{}  // has one in it while room for a drive is looked for
	running     sync.WaitGroup // workers, and the biller
}

// pace is how often things are looked at although nothing has happened. Tests of
// weeks take longer steps.
type pace struct{ heartbeat, billing, placing time.Duration }

// New makes a scheduler over the GPUs that the machine has. Nothing happens
// until Run.
func New(st *store.Store, m Machine, gpus []placement.GPU, log *slog.Logger, options ...Option) *Scheduler {
	s := &Scheduler{
		store: st, machine: m, gpus: gpus, log: log, pace: pace{heartbeat: heartbeat, billing: billingEvery, placing: placingEvery},
		keep: keeping{long: keepRecords, every: forgetEvery}, preemptAfter: DefaultPreemptAfter,
		workers:     map[InstanceID]*worker{},
		progress:    map[InstanceID]agent.PullProgress{},
		subscribers: map[chan struct{}]struct{}{},
		volumes:     map[DriveID]*volumeWorker{},
		promising:   make(chan struct{}, 1),
	}
	for _, o := range options {
		o(s)
	}
	return s
}

// Run reconciles until ctx ends, and returns when every worker has stopped. What
// runs on the machine goes on running. It is called once.
func (s *Scheduler) Run(ctx context.Context) error {
	watch := s.store.Watch(instances.Name())
	defer watch.Close()
	stored := s.store.Watch(drives.Bucket)
	defer stored.Close()
	bills := newBiller(s)
	defer bills.close()
	ctx, stop := context.WithCancel(ctx)
	defer s.running.Wait()
	defer stop() // first, if the machine fails us
	live, err := s.begin(ctx)
	if ctx.Err() != nil {
		return nil // stopped before it began
	}
	if err != nil {
		return err
	}
	s.running.Go(func() { bills.run(ctx) })
	s.running.Go(func() { s.pruneImages(ctx) })
	s.running.Go(func() { s.keepPlacing(ctx) })
	for _, id := range live {
		s.wake(ctx, id)
	}
	if err := s.wakeVolumes(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.Ready():
			for _, ch := range watch.Take() {
				s.wake(ctx, instances.KeyOf(ch))
			}
			s.publish()
		case <-stored.Ready():
			for _, ch := range stored.Take() {
				s.wakeVolume(ctx, drives.Changed(ch))
			}
			s.publish()
		case workload, ok := <-s.machine.Changes():
			if !ok {
				return fmt.Errorf("the machine's change feed ended")
			}
			s.kick(workload)
		}
	}
}

// begin takes up what an earlier process left: those who wait may have room now,
// and what is on the machine without a record is removed.
func (s *Scheduler) begin(ctx context.Context) ([]InstanceID, error) {
	var live []InstanceID
	known := map[string]bool{}
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		live = nil
		if err := s.place(tx, time.Now()); err != nil {
			return err
		}
		all, err := everyLive(tx)
		if err != nil {
			return err
		}
		for _, i := range all {
			live = append(live, i.ID)
			known[i.Workload()] = true
			if err := i.indexAgain(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("take up instances: %w", err)
	}
	found, err := s.machine.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list workloads: %w", err)
	}
	for _, id := range found {
		if known[id] {
			continue
		}
		s.log.Warn("removing a workload without a record", "workload", id)
		if err := s.machine.Remove(ctx, id, stopGrace); err != nil {
			s.log.Error("a workload without a record could not be removed", "workload", id, "err", err)
		}
	}
	return live, nil
}

// Subscribe gives a channel that receives a value after any instance has
// changed, several changes folded into one. The caller calls stop when done.
func (s *Scheduler) Subscribe() (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribers[ch] = struct{}{}
	return ch, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subscribers, ch)
	}
}

func (s *Scheduler) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.subscribers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Progress tells how far an instance's image is, while it is pulled.
func (s *Scheduler) Progress(id InstanceID) (p agent.PullProgress, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok = s.progress[id]
	return p, ok
}

func (s *Scheduler) setProgress(id InstanceID, p agent.PullProgress) {
	s.mu.Lock()
	s.progress[id] = p
	s.mu.Unlock()
	s.publish()
}

func (s *Scheduler) clearProgress(id InstanceID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.progress, id)
}
