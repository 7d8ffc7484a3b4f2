package health

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// story drives one GPU's status and its clock.
type story struct {
	t      *testing.T
	status Status
	at     time.Time
}

func newStory(t *testing.T) *story { return &story{t: t, at: noon()} }

// look judges the GPU after a while, and tells the effects.
func (s *story) look(after time.Duration, found ...Finding) []Effect {
	s.at = s.at.Add(after)
	next, effects := s.status.Judge(Assessment{UUID: "GPU-a", Findings: found}, s.at)
	s.status = next
	return effects
}

// pass looks once a minute.
func (s *story) pass(d time.Duration, found ...Finding) (effects []Effect) {
	for ; d > 0; d -= time.Minute {
		effects = append(effects, s.look(time.Minute, found...)...)
	}
	return effects
}

func (s *story) uncordon() []Effect {
	next, effects := s.status.Uncordon()
	s.status = next
	return effects
}

func (s *story) is(want State, findings int) {
	s.t.Helper()
	if s.status.State != want || len(s.status.Findings) != findings {
		s.t.Errorf("at %s it is %s for %+v, want %s for %d findings", s.at.Format(time.TimeOnly), s.status.State, s.status.Findings, want, findings)
	}
}

func did(effects []Effect) (out []EffectKind) {
	for _, e := range effects {
		out = append(out, e.Do)
	}
	return out
}

func (s *story) did(effects []Effect, want ...EffectKind) {
	s.t.Helper()
	if got := did(effects); !reflect.DeepEqual(got, want) {
		s.t.Errorf("at %s the effects are %v, want %v", s.at.Format(time.TimeOnly), got, want)
	}
}

func found(kind Kind, key string) Finding { return newFinding("GPU-a", kind, key, "Text.", "Do.") }

func hot() Finding { return found(KindThermal, "thermal") }

func ecc(count uint64) Finding {
	f := found(KindECC, "ecc")
	f.Count = count
	return f
}

func TestHotGPURestsAndComesBackByItselfAfterAQuietTime(t *testing.T) {
	s := newStory(t)
	s.did(s.look(0, hot()), Tell, Close)
	s.is(Resting, 1)
	s.did(s.pass(20*time.Minute, hot()))
	s.did(s.pass(9 * time.Minute))
	s.is(Resting, 1)
	s.did(s.look(0, hot())) // hot again: the quiet time begins anew
	s.did(s.pass(9 * time.Minute))
	s.is(Resting, 1)
	s.did(s.pass(time.Minute), Open)
	s.is(Healthy, 0)
	s.did(s.look(0, hot()), Tell, Close)
}

func TestFatalFindingNeverEndsByItself(t *testing.T) {
	s := newStory(t)
	s.look(0, found(KindLost, "lost"))
	s.did(s.pass(48*time.Hour, hot()), Tell)
	s.did(s.pass(48 * time.Hour))
	s.is(Cordoned, 1)
	s.did(s.uncordon(), Open)
	s.is(Healthy, 0)
	s.did(s.look(0))
}

func TestFatalXIDIsToldOnceAndAgainAfterAnUncordon(t *testing.T) {
	s := newStory(t)
	xid, _ := FromXID("GPU-a", 79)
	for i := range 3 {
		next, effects := s.status.Happened(xid, s.at)
		s.status = next
		if i == 0 {
			s.did(effects, Tell, Close)
		} else {
			s.did(effects)
		}
	}
	s.is(Cordoned, 1)
	s.did(s.uncordon(), Open)
	next, effects := s.status.Happened(xid, s.at)
	s.status = next
	s.did(effects, Tell, Close)
	s.is(Cordoned, 1)
}

func TestWatchedXIDEndsAfterADay(t *testing.T) {
	s := newStory(t)
	xid, _ := FromXID("GPU-a", 63)
	s.look(0)
	next, effects := s.status.Happened(xid, s.at)
	s.status = next
	s.did(effects, Tell)
	s.is(Watched, 1)
	s.did(s.pass(24*time.Hour - time.Minute))
	s.is(Watched, 1)
	s.did(s.pass(time.Minute))
	s.is(Healthy, 0)
}

func TestRestThatEndsWhileSomethingElseIsWatchedLeavesItWatched(t *testing.T) {
	s := newStory(t)
	pending := found(KindRemapPending, "remap-pending")
	s.did(s.look(0, pending), Tell)
	s.is(Watched, 1)
	s.did(s.look(0, pending, hot()), Tell, Close)
	s.is(Resting, 2)
	s.did(s.pass(10*time.Minute, pending), Open)
	s.is(Watched, 1)
}

func TestWhatTheOperatorUncordonedComesBackOnlyWhenItGrowsOrReturns(t *testing.T) {
	s := newStory(t)
	s.look(0, ecc(2))
	s.is(Cordoned, 1)
	s.uncordon()
	s.did(s.pass(time.Hour, ecc(2)))
	s.is(Healthy, 0)
	s.did(s.look(time.Minute, ecc(3)), Tell, Close)
	s.is(Cordoned, 1)
	s.uncordon()
	s.did(s.look(time.Minute)) // reset: the driver counts from zero
	s.did(s.look(time.Minute, ecc(1)), Tell, Close)
}

func TestWhatIsWaivedIsNotForgottenWhileTheGPUCannotBeSeen(t *testing.T) {
	s := newStory(t)
	s.look(0, ecc(2))
	s.uncordon()
	hangs := found(KindHangs, "hangs")
	next, effects := s.status.Judge(Assessment{UUID: "GPU-a", Blind: true, Findings: []Finding{hangs}}, s.at)
	s.status = next
	s.did(effects, Tell, Close)
	s.did(s.look(time.Second, ecc(2)))
	s.is(Resting, 1)
}

func TestNothingEndsWhileTheGPUCannotBeSeen(t *testing.T) {
	s := newStory(t)
	s.look(0, hot())
	for range 60 {
		s.at = s.at.Add(time.Minute)
		s.status, _ = s.status.Judge(Assessment{UUID: "GPU-a", Blind: true}, s.at)
	}
	s.is(Resting, 1)
}

func TestClockThatIsSetEndsNoRest(t *testing.T) {
	for _, jump := range []time.Duration{24 * 365 * time.Hour, -24 * 365 * time.Hour} {
		s := newStory(t)
		s.look(0, hot())
		s.did(s.look(jump))
		s.is(Resting, 1)
		s.pass(8 * time.Minute)
		s.is(Resting, 1)
		s.pass(2 * time.Minute)
		s.is(Healthy, 0)
	}
}

func TestOperatorCordonsAndUncordons(t *testing.T) {
	s := newStory(t)
	next, effects := s.status.Cordon("GPU-a", "new fan", s.at)
	s.status = next
	s.did(effects, Tell, Close)
	s.did(s.pass(time.Hour))
	s.is(Cordoned, 1)
	s.did(s.uncordon(), Open)
}

func TestStatusIsTheSameAfterItWasStored(t *testing.T) {
	s := newStory(t)
	s.look(0, hot(), ecc(2))
	s.uncordon()
	s.look(time.Minute, hot(), ecc(3))
	raw, err := json.Marshal(s.status)
	if err != nil {
		t.Fatal(err)
	}
	var back Status
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, s.status) {
		t.Errorf("%+v\n%+v", back, s.status)
	}
}

func TestFindingsAreBoundedAndTheGravestStay(t *testing.T) {
	s := newStory(t)
	s.look(0, found(KindLost, "lost"))
	for code := range uint64(10 * maxFindings) {
		xid, _ := FromXID("GPU-a", 100_000+code)
		s.status, _ = s.status.Happened(xid, s.at)
	}
	s.is(Cordoned, maxFindings)
	if s.status.Findings[0].Kind != KindLost {
		t.Errorf("%+v", s.status.Findings[0])
	}
}

// drawStep is one thing that can happen to a GPU.
func drawStep(t *rapid.T, s Status, at time.Time) (next Status, effects []Effect, uncordoned bool) {
	switch rapid.SampledFrom([]string{"judge", "judge", "judge", "xid", "uncordon", "cordon"}).Draw(t, "step") {
	case "xid":
		if f, ok := FromXID("GPU-a", rapid.SampledFrom([]uint64{31, 48, 63, 79, 92, 4711}).Draw(t, "code")); ok {
			next, effects = s.Happened(f, at)
			return next, effects, false
		}
	case "uncordon":
		next, effects = s.Uncordon()
		return next, effects, true
	case "cordon":
		next, effects = s.Cordon("GPU-a", "test", at)
		return next, effects, false
	}
	a := Assessment{UUID: "GPU-a", Blind: rapid.Bool().Draw(t, "blind")}
	for _, f := range []Finding{hot(), ecc(rapid.Uint64Range(0, 3).Draw(t, "count")), found(KindRemapPending, "p"), found(KindHangs, "h"), found(KindRemapFailed, "f")} {
		if rapid.IntRange(0, 4).Draw(t, "there") == 0 {
			a.Findings = append(a.Findings, f)
		}
	}
	next, effects = s.Judge(a, at)
	return next, effects, false
}

// Whatever happens, at whatever times (also backwards): the state is what the
// findings say, only the operator ends a lasting one, the caller opens and closes
// the GPU in turn, and each finding that begins is told, and told once.
func TestStatusIsAlwaysWhatItsFindingsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Status
		at, open := noon(), true
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.Int64Range(-120, 1200).Draw(t, "seconds")) * time.Second)
			before := fmt.Sprintf("%+v", s)
			next, effects, uncordoned := drawStep(t, s, at)
			if after := fmt.Sprintf("%+v", s); after != before {
				t.Fatalf("the old status changed:\n%s\n%s", before, after)
			}
			checkStep(t, s, next, effects, uncordoned)
			for _, e := range effects {
				switch {
				case e.Do == Close && !open, e.Do == Open && open:
					t.Fatalf("%s twice", e.Do)
				case e.Do != Tell:
					open = e.Do == Open
				}
			}
			if open != next.State.TakesWork() {
				t.Fatalf("%s and open is %v", next.State, open)
			}
			s = next
		}
	})
}

func checkStep(t *rapid.T, before, next Status, effects []Effect, uncordoned bool) {
	want := Healthy
	keys := map[string]bool{}
	for _, a := range next.Findings {
		keys[a.Key] = true
		switch {
		case a.Severity == Cordon && a.lasting():
			want = Cordoned
		case a.Severity == Cordon && want != Cordoned:
			want = Resting
		case want == Healthy:
			want = Watched
		}
	}
	if next.State != want || len(keys) != len(next.Findings) {
		t.Fatalf("%s for %+v, want %s", next.State, next.Findings, want)
	}
	had := map[string]bool{}
	for _, a := range before.Findings {
		had[a.Key] = true
		if a.lasting() && a.Severity == Cordon && !keys[a.Key] && !uncordoned {
			t.Fatalf("%s ended by itself", a.Key)
		}
	}
	told := map[string]bool{}
	for _, e := range effects {
		if e.Do == Tell {
			if had[e.Finding.Key] || told[e.Finding.Key] {
				t.Fatalf("%s is told again", e.Finding.Key)
			}
			told[e.Finding.Key] = true
		}
	}
	for key := range keys {
		if !had[key] && !told[key] {
			t.Fatalf("%s is not told", key)
		}
	}
}
