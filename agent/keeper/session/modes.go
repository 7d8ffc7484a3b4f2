package session

import "strconv"

// privateModes are the DEC private modes (CSI ? n h) that a program may leave
// set while it prints, without those of the alternate screen, with those that
// are on from the start marked.
func privateModes() []privateMode {
	return []privateMode{
		{number: 1}, {number: 5}, {number: 6}, {number: 7, initially: true}, {number: 9}, {number: 25, initially: true}, {number: 66},
		{number: 1000}, {number: 1002}, {number: 1003}, {number: 1004}, {number: 1005}, {number: 1006}, {number: 1015}, {number: 2004},
	}
}

type privateMode struct {
	number    int
	initially bool
}

// modes is what a terminal keeps beside what is on its screen: what decides how
// the next byte looks. It is small and is copied freely.
type modes struct {
	changed     uint16 // bit n: privateModes()[n] is not as it was initially
	alternate   uint16 // 47, 1047 or 1049 while that screen is shown
	insert      bool
	keypad      bool // ESC =
	top, bottom uint16
	shifted     bool    // SO
	charsets    [2]byte // of G0 and G1; 0 is ASCII
	style       style
}

// style is how characters look (SGR).
type style struct {
	on     uint16 // bit n: attribute n, 1 to 9
	fg, bg colour
}

// colour is an SGR parameter list, such as 31 or 38;5;208; kind 0 is the default.
type colour struct{ kind, mode, a, b, c uint8 }

// prologue gives the control sequences that bring a terminal that was just reset
// to these modes. before is shown ahead of a full-screen program's screen.
func (m modes) prologue(before []byte) []byte {
	var p []byte
	p = append(p, before...)
	number := func(prefix string, n int, final byte) {
		p = append(p, "\x1b["...)
		p = append(p, prefix...)
		p = strconv.AppendInt(p, int64(n), 10)
		p = append(p, final)
	}
	if m.alternate != 0 {
		number("?", int(m.alternate), 'h')
	}
	for n, mode := range privateModes() {
		if m.changed&(1<<n) != 0 {
			final := byte('h')
			if mode.initially {
				final = 'l'
			}
			number("?", mode.number, final)
		}
	}
	if m.insert {
		number("", 4, 'h')
	}
	if m.keypad {
		p = append(p, "\x1b="...)
	}
	if m.top != 0 || m.bottom != 0 {
		p = append(p, "\x1b["...)
		p = strconv.AppendInt(p, int64(max(m.top, 1)), 10)
		p = append(p, ';')
		if m.bottom != 0 {
			p = strconv.AppendInt(p, int64(m.bottom), 10)
		}
		p = append(p, 'r')
	}
	for n, set := range m.charsets {
		if set != 0 {
			p = append(p, 0x1b, "()"[n], set)
		}
	}
	if m.shifted {
		p = append(p, 0x0e)
	}
	return m.style.append(p)
}

func (s style) append(p []byte) []byte {
	if s == (style{}) {
		return p
	}
	p = append(p, "\x1b[0"...)
	for n := 1; n <= 9; n++ {
		if s.on&(1<<n) != 0 {
			p = append(p, ';', '0'+byte(n))
		}
	}
	for _, c := range []colour{s.fg, s.bg} {
		if c.kind == 0 {
			continue
		}
		list := []uint8{c.kind}
		switch c.mode {
		case 5:
			list = append(list, 5, c.a)
		case 2:
			list = append(list, 2, c.a, c.b, c.c)
		}
		for _, n := range list {
			p = strconv.AppendInt(append(p, ';'), int64(n), 10)
		}
	}
	return append(p, 'm')
}

// csi applies a control sequence: what stands between ESC [ and the final byte.
func (m *modes) csi(params []byte, final byte) {
	switch {
	case len(params) > 0 && params[0] == '?' && (final == 'h' || final == 'l'):
		eachNumber(params[1:], func(n int) { m.private(n, final == 'h') })
	case len(params) > 0 && (params[0] < '0' || params[0] > ';'):
		// Private in another way; xterm's CSI > 4 ; 2 m is no style.
	case final == 'h' || final == 'l':
		eachNumber(params, func(n int) {
			if n == 4 {
				m.insert = final == 'h'
			}
		})
	case final == 'r':
		var edges [2]uint16
		at := 0
		eachNumber(params, func(n int) {
			if at < len(edges) {
				edges[at] = uint16(min(n, 1<<16-1))
			}
			at++
		})
		m.top, m.bottom = edges[0], edges[1]
	case final == 'm':
		m.style.apply(params)
	}
}

func (m *modes) private(n int, set bool) {
	if n == 47 || n == 1047 || n == 1049 {
		m.alternate = 0
		if set {
			m.alternate = uint16(n)
		}
		return
	}
	for i, mode := range privateModes() {
		if mode.number == n {
			m.changed &^= 1 << i
			if set != mode.initially {
				m.changed |= 1 << i
			}
		}
	}
}

// isSet reports whether a program has set a private mode that is not initially.
func (m *modes) isSet(number int) bool {
	for i, mode := range privateModes() {
		if mode.number == number {
			return m.changed&(1<<i) != 0
		}
	}
	return false
}

func (s *style) apply(params []byte) {
	var list [32]int
	count := 0
	eachNumber(params, func(n int) {
		if count < len(list) {
			list[count] = n
			count++
		}
	})
	for i := 0; i < count; i++ {
		switch n := list[i]; {
		case n == 0:
			*s = style{}
		case n <= 9:
			s.on |= 1 << n
		case n == 21 || n == 22:
			s.on &^= 1<<1 | 1<<2
		case n >= 23 && n <= 29:
			s.on &^= 1 << (n - 20)
			if n == 25 {
				s.on &^= 1 << 6
			}
		case n >= 30 && n <= 37 || n >= 90 && n <= 97:
			s.fg = colour{kind: uint8(n)}
		case n >= 40 && n <= 47 || n >= 100 && n <= 107:
			s.bg = colour{kind: uint8(n)}
		case n == 39:
			s.fg = colour{}
		case n == 49:
			s.bg = colour{}
		case n == 38 || n == 48:
			c := colour{kind: uint8(n)}
			switch rest := list[i+1 : count]; {
			case len(rest) >= 2 && rest[0] == 5:
				c.mode, c.a = 5, uint8(rest[1])
				i += 2
			case len(rest) >= 4 && rest[0] == 2:
				c.mode, c.a, c.b, c.c = 2, uint8(rest[1]), uint8(rest[2]), uint8(rest[3])
				i += 4
			default:
				return
			}
			if n == 38 {
				s.fg = c
			} else {
				s.bg = c
			}
		}
	}
}

// eachNumber calls f for every parameter; one that is left out is 0.
func eachNumber(params []byte, f func(int)) {
	n := 0
	for _, b := range params {
		switch {
		case b >= '0' && b <= '9':
			n = min(n*10+int(b-'0'), 1<<20)
		case b == ';' || b == ':':
			f(n)
			n = 0
		}
	}
	f(n)
}
