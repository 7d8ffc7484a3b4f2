package session

import "time"

// window is the terminal's, which has one whoever looks: that of the viewer who
// was the last to come, to type or to change its own.
type window struct {
	is       Window
	clock    uint64
	wiggling bool
}

// join notes a viewer's window and reports whether the terminal's changed. A
// viewer without one leaves the terminal's as it is. mu must be held.
func (h *host) join(c *client, w Window) (changed bool) {
	h.window.clock++
	if w.Cols > 0 && w.Rows > 0 {
		c.window, c.active = w, h.window.clock
		c.told = w
	}
	return h.fit()
}

// touch notes that a viewer types.
func (h *host) touch(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.window.clock++
	h.lastUse = time.Now()
	if c.window != (Window{}) {
		c.active = h.window.clock
		if c.window != h.window.is {
			h.fit()
		}
	}
}

// fit gives the terminal the window of the newest viewer. mu must be held.
func (h *host) fit() (changed bool) {
	var newest *client
	for c := range h.clients {
		if c.active > 0 && (newest == nil || c.active > newest.active) {
			newest = c
		}
	}
	if newest != nil && newest.window != h.window.is {
		h.window.is, changed = newest.window, true
		h.pty.resize(h.window.is)
	}
	for c := range h.clients {
		if c.place != nil && c.told != h.window.is {
			c.place.nudge()
		}
	}
	return changed
}

// wiggle has a full-screen program draw everything again: by a window that is
// smaller for a moment.
func (h *host) wiggle() {
	h.mu.Lock()
	w := h.window.is
	busy := h.window.wiggling
	if !busy {
		h.window.wiggling = true
		if w.Rows > 1 {
			w.Rows--
		} else {
			w.Rows++
		}
		h.pty.resize(w)
	}
	h.mu.Unlock()
	if busy {
		return
	}
	select {
	case <-time.After(wiggleTime):
	case <-h.ended:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.window.wiggling = false
	h.pty.resize(h.window.is)
}
