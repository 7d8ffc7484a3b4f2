package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"ecolink/nvml"
	"ecolink/nvml/history"
)

const (
	// interval is from one sample to the next, at each whole second.
	interval = time.Second
	// quietInterval is instead while there are no GPUs to sample: asking for a
	// driver that is not there loads its library each time.
	quietInterval = 30 * time.Second
)

// Source is what samples are taken of: an nvml.Library.
type Source interface {
	Sample() (nvml.Samples, error)
}

// Keeper is where figures go: a history.History.
type Keeper interface {
	Append(device string, at time.Time, figures history.Figures) error
}

// Sampler takes a sample each second. Latest is safe for concurrent use.
type Sampler struct {
	source Source
	keeper Keeper
	log    *slog.Logger

	mu     sync.Mutex
	latest nvml.Samples
	err    error

	silent  map[int]bool // GPUs, so that each is told of once; Run's alone
	failed  bool         // to sample at all
	notKept bool         // by the keeper
}

// NewSampler makes a Sampler that does nothing until Run.
func NewSampler(source Source, keeper Keeper, log *slog.Logger) *Sampler {
	return &Sampler{source: source, keeper: keeper, log: log, err: errNone, silent: map[int]bool{}}
}

var errNone = errors.New("the GPUs were not sampled yet: ask again in a second")

// Run samples until ctx ends. Call it once, and wait for it before closing what
// it was given. It is never more than a sample behind: a second that was missed,
// since the clock jumped or the machine stood still, stays a gap.
func (s *Sampler) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now().Truncate(interval)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := interval
		if quiet := s.Take(due); quiet {
			next = quietInterval
		}
		due = nextDue(due, time.Now(), next)
		timer.Reset(time.Until(due))
	}
}

// nextDue is one step on, unless the clock is elsewhere.
func nextDue(due, now time.Time, step time.Duration) time.Time {
	due = due.Add(step)
	if wait := due.Sub(now); wait < 0 || wait > step {
		return now.Truncate(interval).Add(step)
	}
	return due
}

// Latest are the samples of the last second, which must not be changed, or why
// there are none. Whoever shows them compares their time with the clock.
func (s *Sampler) Latest() (nvml.Samples, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest, s.err
}

// Take takes one sample and keeps it as that of the second that due is in. It is
// what Run does each second, for who has a clock of their own: not while Run runs.
// Quiet: there is nothing to sample.
func (s *Sampler) Take(due time.Time) (quiet bool) {
	samples, err := s.source.Sample()
	s.mu.Lock()
	s.latest, s.err = samples, err
	s.mu.Unlock()
	s.tellFailure(err)
	if err != nil {
		return false
	}
	s.tellSilent(samples)
	s.keep(due, samples.Devices)
	return samples.Note != ""
}

func (s *Sampler) keep(due time.Time, devices []nvml.Sample) {
	var failed error
	for i := range devices {
		if err := s.keeper.Append(devices[i].UUID, due, figuresOf(&devices[i])); err != nil {
			failed = err
		}
	}
	switch {
	case failed != nil && !s.notKept:
		s.log.Error("GPU history is not kept: free disk space or look at its folder", "error", failed)
	case failed == nil && s.notKept:
		s.log.Info("GPU history is kept again")
	}
	s.notKept = failed != nil
}

func (s *Sampler) tellFailure(err error) {
	switch {
	case err != nil && !s.failed:
		s.log.Error("GPUs are not sampled", "error", err)
	case err == nil && s.failed:
		s.log.Info("GPUs are sampled again")
	}
	s.failed = err != nil
}

func (s *Sampler) tellSilent(samples nvml.Samples) {
	now := map[int]bool{}
	for _, g := range samples.Silent {
		now[g.Index] = true
		if !s.silent[g.Index] {
			s.log.Warn("GPU gives no sample", "gpu", g.Index, "uuid", g.UUID, "reason", g.Detail)
		}
	}
	for index := range s.silent {
		if !now[index] {
			s.log.Info("GPU gives samples again", "gpu", index)
		}
	}
	s.silent = now
}
