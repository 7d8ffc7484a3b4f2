package health

import (
	"maps"
	"slices"
	"time"
)

const (
	// maxFindings is how many findings one GPU is shown with; its 36 links and the
	// codes of one bad hour fit.
	maxFindings = 64
	// maxLook is the longest time between two looks that counts as quiet: nobody knows
	// what happened in a longer one, and a clock that was set must end no rest.
	maxLook = time.Minute
)

// Status is one GPU's health through time. It is a value: its methods give the
// next one and leave it as it is. The zero value is a healthy GPU.
type Status struct {
	State    State    `json:"state"`
	Findings []Active `json:"findings,omitempty"` // what it is watched or cordoned for, oldest first
	// Waived are the conditions that held when the operator uncordoned, by key, with
	// their count. They are found again when they have grown or were gone in between.
	Waived map[string]uint64 `json:"waived,omitempty"`
	Looked time.Time         `json:"looked"` // when it was last judged
}

// Active is a finding that is not over.
type Active struct {
	Finding
	Since time.Time     `json:"since"`
	Calm  time.Duration `json:"calm"` // how long it has been gone
}

// EffectKind says what a step asks of the caller.
type EffectKind string

// The effects.
const (
	Tell  EffectKind = "tell"  // notify the operator of a new finding; if it cordons, the GPU's users too
	Close EffectKind = "close" // place nothing new on the GPU
	Open  EffectKind = "open"  // the GPU takes work again
)

// Effect is one thing to do.
type Effect struct {
	Do      EffectKind `json:"do"`
	Finding Finding    `json:"finding,omitzero"` // what to tell; zero for the others
}

// Judge takes in an assessment of the GPU that was made at a time. Findings that
// pass end here, when they were not in it for as long as they say.
func (s Status) Judge(a Assessment, at time.Time) (Status, []Effect) {
	next := s.copy()
	var quiet time.Duration
	if !s.Looked.IsZero() {
		quiet = min(max(at.Sub(s.Looked), 0), maxLook)
	}
	next.Looked = at
	seen := map[string]bool{}
	var effects []Effect
	for _, f := range a.Findings {
		seen[f.Key] = true
		if count, waived := next.Waived[f.Key]; waived && f.Count <= count {
			next.Waived[f.Key] = f.Count // a counter that fell may grow again
			continue
		}
		effects = append(effects, next.find(f, at)...)
	}
	if !a.Blind {
		next.age(seen, quiet)
	}
	return next, append(effects, s.gate(next)...)
}

// Happened takes in something that happened once, such as an Xid (FromXID).
func (s Status) Happened(f Finding, at time.Time) (Status, []Effect) {
	next := s.copy()
	effects := next.find(f, at)
	return next, append(effects, s.gate(next)...)
}

// Cordon takes in the operator's wish to keep new work away, with the reason.
func (s Status) Cordon(uuid, reason string, at time.Time) (Status, []Effect) {
	f := newFinding(uuid, KindOperator, "operator", "The operator cordoned this GPU: "+reason, "Uncordon it when it may take work again.")
	return s.Happened(f, at)
}

// Uncordon takes in the operator's word that the GPU is fit. What holds at that
// moment is not found again unless it grows, or ends and comes back.
func (s Status) Uncordon() (Status, []Effect) {
	next := s.copy()
	for _, f := range next.Findings {
		if next.Waived == nil {
			next.Waived = map[string]uint64{}
		}
		next.Waived[f.Key] = f.Count
	}
	next.Findings = nil
	next.State = next.State.after(uncordon)
	return next, s.gate(next)
}

func (s Status) copy() Status {
	s.Findings = slices.Clone(s.Findings)
	s.Waived = maps.Clone(s.Waived)
	if s.State == "" {
		s.State = Healthy
	}
	return s
}

// find adds a finding or, when it is there already, only notes that it still is.
func (s *Status) find(f Finding, at time.Time) []Effect {
	if i := slices.IndexFunc(s.Findings, func(a Active) bool { return a.Key == f.Key }); i >= 0 {
		s.Findings[i].Finding, s.Findings[i].Calm = f, 0
		return nil
	}
	if len(s.Findings) >= maxFindings {
		s.drop()
	}
	s.Findings = append(s.Findings, Active{Finding: f, Since: at})
	s.State = s.State.after(f.stimulus())
	return []Effect{{Do: Tell, Finding: f}}
}

// drop makes room by the least grave of the oldest findings.
func (s *Status) drop() {
	for _, grave := range []stimulus{watch, rest, fail} {
		if i := slices.IndexFunc(s.Findings, func(a Active) bool { return a.stimulus() == grave }); i >= 0 {
			s.Findings = slices.Delete(s.Findings, i, i+1)
			return
		}
	}
}

// age ends what has been gone for long enough.
func (s *Status) age(seen map[string]bool, quiet time.Duration) {
	for key := range s.Waived {
		if !seen[key] {
			delete(s.Waived, key)
		}
	}
	s.Findings = slices.DeleteFunc(s.Findings, func(a Active) bool {
		return !a.lasting() && !seen[a.Key] && a.Calm+quiet >= a.Quiet
	})
	cordons := false
	for i, a := range s.Findings {
		if !seen[a.Key] {
			s.Findings[i].Calm += quiet
		}
		cordons = cordons || a.Severity == Cordon
	}
	switch {
	case len(s.Findings) == 0:
		s.State = s.State.after(calm)
	case !cordons:
		s.State = s.State.after(rested)
	}
}

// gate is what changes for new work between two statuses.
func (s Status) gate(next Status) []Effect {
	was, is := s.State == "" || s.State.TakesWork(), next.State.TakesWork()
	switch {
	case was && !is:
		return []Effect{{Do: Close}}
	case !was && is:
		return []Effect{{Do: Open}}
	}
	return nil
}

// stimulus is what finding it does to the GPU's state.
func (f Finding) stimulus() stimulus {
	switch {
	case f.Severity == Watch:
		return watch
	case f.lasting():
		return fail
	}
	return rest
}
