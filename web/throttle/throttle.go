package throttle

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// Window is how long a failure counts.
const Window = 10 * time.Minute

// maxNames bounds the names that are remembered.
const maxNames = 8192

// Throttle counts failures by name, in bounded memory: past its limit the name
// that failed longest ago is forgotten. It is safe for concurrent use.
type Throttle struct {
	most int // failures within Window

	mu     sync.Mutex
	byName map[string]*list.Element // of *failures
	recent *list.List               // the latest to fail in front
}

type failures struct {
	name string
	at   []time.Time // within the window, oldest first, at most most
}

// New makes a throttle that lets a name fail so many times within Window.
func New(most int) *Throttle {
	return &Throttle{most: most, byName: map[string]*list.Element{}, recent: list.New()}
}

// Wait is how long the names have to wait, each of them; 0: not at all.
func (t *Throttle) Wait(now time.Time, names ...string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wait(now, names)
}

func (t *Throttle) wait(now time.Time, names []string) (wait time.Duration) {
	for _, name := range names {
		if f := t.of(name, now); f != nil && len(f.at) >= t.most {
			wait = max(wait, f.at[0].Add(Window).Sub(now))
		}
	}
	return wait
}

// Begin counts an attempt as a failure beforehand, so that many at once are not
// all let through. When a name has failed too often it counts nothing and says
// when to try again.
func (t *Throttle) Begin(now time.Time, names ...string) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait := t.wait(now, names); wait > 0 {
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
	for t.recent.Len() > maxNames {
		t.drop(t.recent.Back())
	}
	return 0, true
}

// Undo takes back one attempt of each name: it was no failure.
func (t *Throttle) Undo(began time.Time, names ...string) {
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
func (t *Throttle) of(name string, now time.Time) *failures {
	e := t.byName[name]
	if e == nil {
		return nil
	}
	f := e.Value.(*failures)
	for len(f.at) > 0 && now.Sub(f.at[0]) >= Window {
		f.at = f.at[1:]
	}
	if len(f.at) == 0 {
		t.drop(e)
		return nil
	}
	return f
}

func (t *Throttle) drop(e *list.Element) {
	t.recent.Remove(e)
	delete(t.byName, e.Value.(*failures).name)
}

// Address is the name that an address counts under. Of an IPv6 address it is the
// network of 64 bits: one subscriber has all of it.
func Address(from string) string {
	if a, err := netip.ParseAddr(from); err == nil {
		if a = a.Unmap().WithZone(""); a.Is6() {
			if p, err := a.Prefix(64); err == nil {
				from = p.String()
			}
		} else {
			from = a.String()
		}
	}
	return "address " + from
}
