package telemetry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/nvml"
	"ecolink/nvml/history"
)

// script answers each sample by what the test sets.
type script struct {
	mu     sync.Mutex
	answer func() (nvml.Samples, error)
	asked  int
}

func (s *script) Sample() (nvml.Samples, error) {
	s.mu.Lock()
	s.asked++
	answer := s.answer
	s.mu.Unlock()
	return answer()
}

func (s *script) set(answer func() (nvml.Samples, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// running is a Sampler that runs until the test ends it, with a history of its own.
type running struct {
	*Sampler
	source *script
	kept   *history.History
	logged *bytes.Buffer
	end    func()
}

func run(t *testing.T, answer func() (nvml.Samples, error)) *running {
	t.Helper()
	r := &running{source: &script{answer: answer}, logged: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(r.logged, nil))
	var err error
	if r.kept, err = history.Open(t.TempDir(), log); err != nil {
		t.Fatal(err)
	}
	r.Sampler = NewSampler(r.source, r.kept, log)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Run(ctx)
	}()
	r.end = func() {
		cancel()
		<-ended
		if err := r.kept.Close(); err != nil {
			t.Error(err)
		}
	}
	return r
}

func oneGPU() (nvml.Samples, error) {
	return nvml.Samples{Time: time.Now(), Devices: []nvml.Sample{{UUID: "GPU-a", Time: time.Now(), PowerWatts: nvml.Known(300.0)}}}, nil
}

// points are of the last minutes, by the second.
func (r *running) points(t *testing.T) []history.Point {
	t.Helper()
	points, err := r.kept.Query("GPU-a", time.Now().Add(-10*time.Minute), time.Now().Add(time.Minute), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return points
}

func TestEachSecondHasItsPoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(333 * time.Millisecond) // it need not start at a whole second
		r := run(t, oneGPU)
		time.Sleep(90 * time.Second)
		synctest.Wait()
		points := r.points(t)
		if len(points) != 91 {
			t.Errorf("%d points", len(points))
		}
		for i, p := range points {
			if watts, ok := p.Mean.Get(PowerWatts); !ok || watts != 300 || !p.Time.Equal(points[0].Time.Add(time.Duration(i)*time.Second)) {
				t.Errorf("point %d is %+v", i, p)
			}
		}
		if latest, err := r.Latest(); err != nil || len(latest.Devices) != 1 || time.Since(latest.Time) > time.Second {
			t.Errorf("latest %+v, %v", latest, err)
		}
		r.end()
	})
}

func TestSampleThatTakesLongCostsNoOtherSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, func() (nvml.Samples, error) {
			time.Sleep(800 * time.Millisecond) // as when a GPU hangs
			return oneGPU()
		})
		time.Sleep(20*time.Second + 900*time.Millisecond)
		synctest.Wait()
		if points := r.points(t); len(points) != 21 {
			t.Errorf("%d points in 21 seconds", len(points))
		}
		r.end()
	})
}

func TestSecondsThatWereMissedStayAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, oneGPU)
		time.Sleep(5*time.Second + time.Millisecond)
		r.source.set(func() (nvml.Samples, error) {
			time.Sleep(10 * time.Second)
			r.source.set(oneGPU)
			return oneGPU()
		})
		time.Sleep(20 * time.Second)
		synctest.Wait()
		points := r.points(t)
		if len(points) != 26-10 { // without 7 to 16
			t.Errorf("%d points", len(points))
		}
		if r.source.asked != len(points) {
			t.Errorf("asked %d times", r.source.asked)
		}
		r.end()
	})
}

func TestNextSampleIsDueNextSecondWhateverTheClockDoes(t *testing.T) {
	at := func(seconds float64) time.Time {
		return time.Unix(1_800_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
	}
	for _, row := range []struct {
		name           string
		due, now, want float64
		step           time.Duration
	}{
		{"on time", 5, 5.01, 6, interval},
		{"late", 5, 5.9, 6, interval},
		{"a little early", 5, 4.9999, 5, interval}, // the second comes again, and replaces itself
		{"behind", 5, 17.3, 18, interval},
		{"the clock went back", 5, -300.5, -300, interval},
		{"the clock went on", 5, 3600.5, 3601, interval},
		{"quiet", 5, 5.01, 35, quietInterval},
	} {
		if got := nextDue(at(row.due), at(row.now), row.step); !got.Equal(at(row.want)) {
			t.Errorf("%s: due at %v, want %v", row.name, got.Sub(at(0)), time.Duration(row.want*float64(time.Second)))
		}
	}
}

func TestMachineWithoutGPUsIsAskedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, func() (nvml.Samples, error) { return nvml.Samples{Note: "no driver"}, nil })
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if r.source.asked > 11 {
			t.Errorf("asked %d times in five minutes", r.source.asked)
		}
		if latest, err := r.Latest(); err != nil || latest.Note != "no driver" {
			t.Errorf("latest %+v, %v", latest, err)
		}
		r.source.set(oneGPU)
		time.Sleep(quietInterval + 2*time.Second)
		synctest.Wait()
		if len(r.points(t)) < 2 {
			t.Error("the GPU that came is not sampled each second")
		}
		r.end()
	})
}

func TestTroubleIsLoggedOnceAndItsEndToo(t *testing.T) {
	silent := func() (nvml.Samples, error) {
		all, _ := oneGPU()
		all.Silent = []nvml.Silent{{Index: 3, UUID: "GPU-x", Detail: "it hangs"}}
		return all, nil
	}
	broken := func() (nvml.Samples, error) { return nvml.Samples{}, errors.New("driver hangs") }
	synctest.Test(t, func(t *testing.T) {
		r := run(t, silent)
		for _, answer := range []func() (nvml.Samples, error){silent, oneGPU, broken, oneGPU} {
			r.source.set(answer)
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		r.end()
		for _, want := range []string{"gives no sample", "gives samples again", "are not sampled", "are sampled again"} {
			if n := strings.Count(r.logged.String(), want); n != 1 {
				t.Errorf("%q is logged %d times: %s", want, n, r.logged)
			}
		}
	})
}

// full is a keeper on a disk that is full until it is not.
type full struct {
	mu   sync.Mutex
	full bool
}

func (f *full) Append(string, time.Time, history.Figures) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return errors.New("no space left on device")
	}
	return nil
}

func TestFullDiskStopsTheHistoryAndNotTheSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		keeper := &full{full: true}
		s := NewSampler(&script{answer: oneGPU}, keeper, slog.New(slog.NewTextHandler(&logged, nil)))
		if _, err := s.Latest(); err == nil {
			t.Error("samples before the first")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.Run(ctx)
		}()
		time.Sleep(5 * time.Second)
		if latest, err := s.Latest(); err != nil || time.Since(latest.Time) > time.Second {
			t.Errorf("latest %+v, %v", latest, err)
		}
		keeper.mu.Lock()
		keeper.full = false
		keeper.mu.Unlock()
		time.Sleep(5 * time.Second)
		cancel()
		<-ended
		for _, want := range []string{"no space left", "kept again"} {
			if n := strings.Count(logged.String(), want); n != 1 {
				t.Errorf("%q is logged %d times: %s", want, n, &logged)
			}
		}
	})
}
