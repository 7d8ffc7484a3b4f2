package console

import (
	"container/list"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Limits of log-in attempts: so many failures for one e-mail and from one address
// within the window, and so many e-mails and addresses remembered.
const (
	maxFailures     = 10
	failureWindow   = 10 * time.Minute
	maxFailureNames = 8192
)

// throttle counts failures by name, in bounded memory: past its limit the name
// that failed longest ago is forgotten.
type throttle struct {
	mu     sync.Mutex
	byName map[string]*list.Element // of *failures
	recent *list.List               // the latest to fail in front
}

type failures struct {
	name string
	at   []time.Time // within the window, oldest first, at most maxFailures
}

func newThrottle() *throttle {
	return &throttle{byName: map[string]*list.Element{}, recent: list.New()}
}

// begin counts an attempt as a failure beforehand, so that many at once are not
// all let through. When a name has failed too often it counts nothing and says
// when to try again.
func (t *throttle) begin(now time.Time, names ...string) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		if f := t.of(name, now); f != nil && len(f.at) >= maxFailures {
			wait = max(wait, f.at[0].Add(failureWindow).Sub(now))
		}
	}
	if wait > 0 {
		return wait, false
	}
	for _, name := range names {
		f := t.of(name, now)
		if f == nil {
			f = &failures{name: name}
			t.byName[name] = t.recent.PushFront(f)
		}
		f.at = append(f.at, now)
		t.recent.MoveToFront(t.byName[name])
	}
	for t.recent.Len() > maxFailureNames {
		t.drop(t.recent.Back())
	}
	return 0, true
}

// undo takes back one attempt of each name: it was no failure.
func (t *throttle) undo(began time.Time, names ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		e := t.byName[name]
		if e == nil {
			continue
		}
		f := e.Value.(*failures)
		for i, at := range f.at {
			if at.Equal(began) {
				f.at = append(f.at[:i], f.at[i+1:]...)
				break
			}
		}
		if len(f.at) == 0 {
			t.drop(e)
		}
	}
}

// of gives a name's failures within the window; nil when there are none.
func (t *throttle) of(name string, now time.Time) *failures {
	e := t.byName[name]
	if e == nil {
		return nil
	}
	f := e.Value.(*failures)
	for len(f.at) > 0 && now.Sub(f.at[0]) >= failureWindow {
		f.at = f.at[1:]
	}
	if len(f.at) == 0 {
		t.drop(e)
		return nil
	}
	return f
}

func (t *throttle) drop(e *list.Element) {
	t.recent.Remove(e)
	delete(t.byName, e.Value.(*failures).name)
}

// attemptNames are the names that a log-in counts under. Of an IPv6 address it is
// the network of 64 bits: one subscriber has all of it.
func attemptNames(email, from string) []string {
	if a, err := netip.ParseAddr(from); err == nil {
		if a = a.Unmap().WithZone(""); a.Is6() {
			if p, err := a.Prefix(64); err == nil {
				from = p.String()
			}
		} else {
			from = a.String()
		}
	}
	email = strings.ToLower(strings.TrimSpace(email))
	if len(email) > 254 { // no address; all such count as one
		email = email[:254]
	}
	return []string{"address " + from, "e-mail " + email}
}
