package main

// detacher finds, in what is typed, the keys that leave a terminal: Enter ~ . as
// in ssh. Enter ~ ~ types one ~; a ~ before anything else is typed as it is.
// What the terminal itself says (some shells ask it at each prompt where the
// cursor stands) is no typing. The zero value stands at the beginning of a line.
type detacher struct {
	midLine bool // something was typed since the last Enter
	tilde   bool // a ~ that began a line is held back
}

// filter gives what of p is to be typed, and whether to leave after it.
func (d *detacher) filter(p []byte) (typed []byte, leave bool) {
	typed = make([]byte, 0, len(p)+1)
	said := answers.FindAllIndex(p, -1)
	for i := 0; i < len(p); i++ {
		if len(said) > 0 && i == said[0][0] {
			typed = append(typed, p[i:said[0][1]]...)
			i, said = said[0][1]-1, said[1:]
			continue
		}
		b := p[i]
		if d.tilde {
			d.tilde, d.midLine = false, true
			if b == '.' {
				return typed, true
			}
			typed = append(typed, '~')
			if b == '~' {
				continue
			}
		} else if b == '~' && !d.midLine {
			d.tilde = true
			continue
		}
		typed = append(typed, b)
		d.midLine = b != '\r' && b != '\n'
	}
	return typed, false
}
