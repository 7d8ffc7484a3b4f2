package nvml

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/health"
)

// lookout is a ward whose events are watched.
type lookout struct {
	*ward
	watcher *Watcher
	log     *logLines
}

// logLines keeps what was logged.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) lines() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.FieldsFunc(l.buf.String(), func(r rune) bool { return r == '\n' })
}

// watchAll runs a story of a machine whose events are watched, on a clock of its
// own. Nothing of the watcher may be left at the end.
func watchAll(t *testing.T, count int, story func(*lookout)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t, "h100", count)
		l := &lookout{ward: w, log: &logLines{}}
		l.watcher = w.library.Watch(slog.New(slog.NewTextHandler(l.log, nil)))
		synctest.Wait()
		story(l)
		l.watcher.Close()
		if n := w.machine.EventSets(); n != 0 {
			t.Errorf("%d event sets are left", n)
		}
	})
}

// came are the events since it was last asked, as "slot kind xid".
func (l *lookout) came() (out []string) {
	synctest.Wait()
	for {
		select {
		case e, open := <-l.watcher.Events():
			if !open {
				return append(out, "closed")
			}
			if since := time.Since(e.Time); since < 0 || since > eventRetry {
				l.t.Errorf("%+v is of %v ago", e, since)
			}
			name := e.UUID
			for _, slot := range l.slots() {
				if l.machine.GPU(slot).UUID() == e.UUID {
					name = fmt.Sprint(slot)
				}
			}
			out = append(out, fmt.Sprintf("%s %s %d", name, e.Kind, e.XID))
		default:
			return out
		}
	}
}

func (l *lookout) expect(what string, want ...string) {
	l.t.Helper()
	if got := l.came(); fmt.Sprint(got) != fmt.Sprint(want) {
		l.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestEventsComeAtOnceWithGPUAndCode(t *testing.T) {
	watchAll(t, 3, func(l *lookout) {
		l.expect("nothing happened")
		l.machine.GPU(2).SendXID(79)
		l.expect("an Xid", "2 xid 79")
		l.machine.GPU(0).CountCorrectedECC()
		l.expect("ECC mended it", "0 corrected_ecc 0")
		l.machine.GPU(1).CountUncorrectedECC()
		l.expect("ECC did not", "1 uncorrected_ecc 0")
		l.machine.GPU(0).ChangeMIG()
		l.expect("MIG", "0 mig_change 0")
	})
}

func TestLostGPUDoesNotStopTheEventsOfTheOthersAndIsWatchedWhenItIsBack(t *testing.T) {
	watchAll(t, 2, func(l *lookout) {
		l.machine.GPU(0).SendXID(79)
		l.machine.GPU(0).Lose()
		synctest.Wait()
		l.machine.GPU(1).SendXID(31)
		time.Sleep(eventRetry)
		l.expect("lost", "0 xid 79", "1 xid 31")
		time.Sleep(time.Minute)
		synctest.Wait()
		l.machine.GPU(1).SendXID(13)
		l.expect("still lost", "1 xid 13")
		l.machine.GPU(0).Repair()
		time.Sleep(eventScan)
		synctest.Wait()
		l.machine.GPU(0).SendXID(48)
		l.machine.GPU(1).SendXID(43)
		l.expect("back", "0 xid 48", "1 xid 43")
		if n := l.machine.EventSets(); n != 1 {
			t.Errorf("%d event sets", n)
		}
	})
}

func TestSetThatFailsIsReplacedWithoutLosingAnEvent(t *testing.T) {
	watchAll(t, 2, func(l *lookout) {
		l.machine.FailWait(gonvml.ERROR_UNKNOWN)
		l.machine.GPU(0).SendXID(31)
		l.expect("in the set that fails", "0 xid 31")
		if n := l.machine.EventSets(); n != 1 {
			t.Errorf("%d event sets", n)
		}
		l.machine.GPU(1).SendXID(13)
		time.Sleep(eventRetry)
		l.expect("in the next", "1 xid 13")
	})
}

func TestGPUThatFallsOffTheBusIsCordonedUntilTheOperatorSaysSo(t *testing.T) {
	watchAll(t, 2, func(l *lookout) {
		l.ward.expect("before")
		gpu := l.machine.GPU(1)
		gpu.SendXID(79)
		gpu.Lose()
		e := <-l.watcher.Events()
		f, ok := health.FromXID(e.UUID, e.XID)
		if !ok || e.UUID != gpu.UUID() {
			t.Fatalf("%+v, %+v", e, f)
		}
		var status health.Status
		status, _ = status.Happened(f, e.Time)
		look := func() {
			now := l.facts()
			for _, a := range health.Assess(l.known, now) {
				if a.UUID == gpu.UUID() {
					status, _ = status.Judge(a, now.At)
				}
			}
		}
		look()
		if status.State != health.Cordoned || len(status.Findings) != 2 {
			t.Errorf("lost: %+v", status)
		}
		gpu.Repair() // the operator rebooted
		for range 60 {
			time.Sleep(time.Minute)
			look()
		}
		if status.State != health.Cordoned {
			t.Errorf("back, and nobody tested it: %+v", status)
		}
		status, _ = status.Uncordon()
		look()
		if status.State != health.Healthy {
			t.Errorf("tested: %+v", status)
		}
	})
}

func TestGPUThatVanishesAndComesBackOrIsReplacedIsWatched(t *testing.T) {
	watchAll(t, 3, func(l *lookout) {
		l.machine.GPU(1).Vanish()
		time.Sleep(2 * eventScan)
		l.machine.GPU(2).SendXID(13)
		l.expect("while it is gone", "2 xid 13")
		l.machine.GPU(1).Return()
		time.Sleep(eventScan)
		synctest.Wait()
		l.machine.GPU(1).SendXID(31)
		l.expect("back", "1 xid 31")
		l.machine.GPU(1).Replace()
		time.Sleep(eventScan)
		synctest.Wait()
		l.machine.GPU(1).SendXID(48)
		l.expect("replaced", "1 xid 48")
	})
}

func TestHungGPUDoesNotStopTheEventsOfTheOthers(t *testing.T) {
	watchAll(t, 3, func(l *lookout) {
		release := l.machine.GPU(0).Hang()
		time.Sleep(2 * eventScan)
		synctest.Wait()
		l.machine.GPU(1).SendXID(119)
		l.expect("hung", "1 xid 119")
		release()
		time.Sleep(eventScan)
		synctest.Wait()
		l.machine.GPU(0).SendXID(31)
		l.expect("answers again", "0 xid 31")
	})
}

func TestSlowReaderMissesNothingThatTheDriverKeeps(t *testing.T) {
	watchAll(t, 1, func(l *lookout) {
		for code := range uint64(2 * maxEvents) {
			l.machine.GPU(0).SendXID(code)
		}
		time.Sleep(time.Minute)
		for want := range uint64(2 * maxEvents) {
			if e := <-l.watcher.Events(); e.XID != want {
				t.Fatalf("%d came, want %d", e.XID, want)
			}
		}
	})
}

func TestWatcherEndsPromptlyWhateverItIsDoing(t *testing.T) {
	for name, c := range map[string]struct {
		trouble func(*lookout)
		limit   time.Duration
	}{
		"waiting":        {func(*lookout) {}, eventWait},
		"nobody reads":   {func(l *lookout) { sendMany(l) }, eventWait},
		"no GPU is left": {func(l *lookout) { l.machine.GPU(0).Vanish(); time.Sleep(time.Minute) }, 0},
		"driver fails":   {func(l *lookout) { l.machine.FailDriver(gonvml.ERROR_UNKNOWN); time.Sleep(time.Minute) }, eventWait},
	} {
		watchAll(t, 1, func(l *lookout) {
			c.trouble(l)
			synctest.Wait()
			began := time.Now()
			l.watcher.Close()
			if took := time.Since(began); took > c.limit {
				t.Errorf("%s: it took %v", name, took)
			}
			l.watcher.Close()
		})
	}
}

func sendMany(l *lookout) {
	for range 2 * maxEvents {
		l.machine.GPU(0).SendXID(13)
	}
}

func TestClosingTheLibraryClosesItsWatchers(t *testing.T) {
	watchAll(t, 2, func(l *lookout) {
		if err := l.library.Close(); err != nil {
			t.Error(err)
		}
		l.expect("closed", "closed")
		late := l.library.Watch(slog.New(slog.DiscardHandler))
		if e, open := <-late.Events(); open {
			t.Errorf("%+v", e)
		}
		late.Close()
	})
}

func TestHungGPUDoesNotHoldUpTheWatchersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t, "h100", 2)
		watcher := w.library.Watch(slog.New(slog.DiscardHandler))
		synctest.Wait()
		release := w.machine.GPU(0).Hang()
		time.Sleep(2 * eventScan)
		began := time.Now()
		watcher.Close()
		if took := time.Since(began); took > eventWait {
			t.Errorf("it took %v", took)
		}
		// The set is left to the driver, which may still work with a GPU in it.
		if n := w.machine.EventSets(); n != 1 {
			t.Errorf("%d event sets", n)
		}
		release()
	})
}

func TestEventNamesTheMIGDeviceOfAnXID(t *testing.T) {
	w := &Watcher{}
	const none = ^uint32(0)
	e := w.event(rawEvent{data: gonvml.EventData{EventType: gonvml.EventTypeXidCriticalError, EventData: 31, GpuInstanceId: 0, ComputeInstanceId: 3}})
	if e.GPUInstance == nil || *e.GPUInstance != 0 || e.ComputeInstance == nil || *e.ComputeInstance != 3 {
		t.Errorf("%+v", e)
	}
	e = w.event(rawEvent{data: gonvml.EventData{EventType: gonvml.EventTypeXidCriticalError, EventData: 31, GpuInstanceId: none, ComputeInstanceId: none}})
	if e.GPUInstance != nil || e.ComputeInstance != nil {
		t.Errorf("%+v", e)
	}
}
