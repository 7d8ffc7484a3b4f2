package session

import "bytes"

// Limits of a tracker.
const (
	// checkEvery is how far apart the places lie where a new viewer may begin.
	checkEvery = 16 << 10
	// maxChecks × checkEvery is how much output a new viewer gets at the most.
	maxChecks = 65
	// maxParams is the longest control sequence that is understood.
	maxParams = 64
)

// tracker follows the output to know where a viewer may begin to read it, and in
// which state its terminal must be there. It understands modes and nothing of
// what is on the screen, so that it is quick: plain text is skipped to the next
// escape (ECMA-48; xterm's control sequences).
type tracker struct {
	modes  modes
	state  parse
	at     int64 // the byte that comes next
	begun  int64 // the first byte of the sequence that is being read
	params []byte
	next   int64 // a check is made at the next line from here on
	checks []check
	// full is the place before the sequence that switched to the alternate
	// screen, while that is shown.
	full check
	tail [3]byte // the last bytes, for a character that is not whole yet
}

// check is a place between two lines, sequences and characters.
type check struct {
	at    int64
	modes modes
}

// parse is where in a control sequence a byte stands.
type parse uint8

const (
	ground parse = iota
	escape
	charset // after ESC ( or ESC ), which is in params
	control // CSI
	text    // OSC, DCS, APC, PM, SOS, to BEL or ESC \
	textEscape
)

func newTracker() *tracker {
	return &tracker{params: make([]byte, 0, maxParams), checks: []check{{}}}
}

// scan takes the next output.
func (t *tracker) scan(p []byte) {
	for _, b := range p[max(0, len(p)-len(t.tail)):] {
		t.tail = [3]byte{t.tail[1], t.tail[2], b}
	}
	for len(p) > 0 {
		n := 1
		if t.state == ground {
			n = t.plain(p)
		} else {
			t.step(p[0])
		}
		t.at += int64(n)
		p = p[n:]
	}
}

// plain skips text in ground state and returns how much.
func (t *tracker) plain(p []byte) int {
	n := bytes.IndexByte(p, 0x1b)
	if n < 0 {
		n = len(p)
	}
	if n > 0 {
		t.shifts(p[:n])
		t.lines(p[:n])
		return n
	}
	t.begun, t.state = t.at, escape
	return 1
}

func (t *tracker) shifts(p []byte) {
	if so, si := bytes.LastIndexByte(p, 0x0e), bytes.LastIndexByte(p, 0x0f); so >= 0 || si >= 0 {
		t.modes.shifted = so > si
	}
}

// lines makes a check for each checkEvery bytes, after the first line's end.
func (t *tracker) lines(p []byte) {
	for at := t.at; t.modes.alternate == 0; {
		skip := max(0, t.next-at)
		if skip >= int64(len(p)) {
			return
		}
		end := bytes.IndexByte(p[skip:], '\n')
		if end < 0 {
			return
		}
		n := int(skip) + end + 1
		at += int64(n)
		p = p[n:]
		if len(t.checks) == maxChecks {
			copy(t.checks, t.checks[1:])
			t.checks = t.checks[:maxChecks-1]
		}
		t.checks = append(t.checks, check{at: at, modes: t.modes})
		t.next = at + checkEvery
	}
}

// step takes one byte of a sequence.
func (t *tracker) step(b byte) {
	switch {
	case b == 0x18 || b == 0x1a: // CAN, SUB
		t.state = ground
	case t.state == textEscape:
		t.state = text
		if b == '\\' {
			t.state = ground
		} else if b != 0x1b {
			t.begin(b) // it began another sequence
		}
	case t.state == text:
		if b == 0x07 {
			t.state = ground
		} else if b == 0x1b {
			t.state = textEscape
		}
	case b == 0x1b:
		t.begun, t.state = t.at, escape
	case t.state == escape:
		t.begin(b)
	case t.state == charset:
		t.state = ground
		if b == 'B' {
			b = 0
		}
		t.modes.charsets[t.params[0]-'('] = b
	case b >= 0x40 && b <= 0x7e: // of a CSI
		t.state = ground
		t.finish(b)
	case b >= 0x20 && len(t.params) < maxParams:
		t.params = append(t.params, b)
	}
}

// begin takes the byte after ESC.
func (t *tracker) begin(b byte) {
	t.params = t.params[:0]
	t.state = ground
	switch b {
	case '[':
		t.state = control
	case ']', 'P', '^', '_', 'X':
		t.state = text
	case '(', ')':
		t.params = append(t.params, b)
		t.state = charset
	case '=', '>':
		t.modes.keypad = b == '='
	case 'c':
		t.modes = modes{}
	case ' ', '#', '%', '*', '+', '-', '.', '/':
		t.state = escape // one more byte, which means nothing here
	}
}

// finish applies a CSI sequence.
func (t *tracker) finish(final byte) {
	if final == 'p' && bytes.Equal(t.params, []byte("!")) { // a soft reset
		t.modes = modes{alternate: t.modes.alternate}
		return
	}
	before := t.modes
	t.modes.csi(t.params, final)
	if before.alternate == 0 && t.modes.alternate != 0 {
		t.full = check{at: t.begun, modes: before}
	}
}

// start says where a terminal that was just reset begins, and in which modes;
// history is how much from before that place it is shown first; most is the most output that
// it gets. repaint: what is
// on the screen does not follow from it, and the program must draw it again.
func (t *tracker) start(oldest, most int64) (c check, history int64, repaint bool) {
	least := max(oldest, t.at-most)
	if t.modes.alternate != 0 && t.full.at < least {
		c = check{at: t.whole(), modes: t.modes}
		return c, max(0, min(historyBytes, t.full.at-oldest)), true
	}
	for n := range t.checks {
		if t.checks[n].at >= least {
			return t.checks[n], 0, false
		}
	}
	if t.modes.alternate != 0 {
		return t.full, 0, false
	}
	// One endless line, or a flood of sequences without a line.
	return check{at: t.whole(), modes: t.modes}, 0, true
}

// whole is the last place that divides neither a sequence nor a character.
func (t *tracker) whole() int64 {
	if t.state != ground {
		return t.begun
	}
	for n := 1; n <= len(t.tail); n++ {
		b := t.tail[len(t.tail)-n]
		switch {
		case b < 0x80:
			return t.at
		case b >= 0xc0: // a character of some bytes begins here
			length := 2
			if b >= 0xf0 {
				length = 4
			} else if b >= 0xe0 {
				length = 3
			}
			if n < length {
				return t.at - int64(n)
			}
			return t.at
		}
	}
	return t.at
}
