package session

import "time"

// When reads of the PTY are a flood: after a row of them that came quickly, one
// after the other. A key's echo is never part of one.
const (
	paceReads = 16
	paceQuick = 500 * time.Microsecond // from one read to the next, on average
	paceGap   = 5 * time.Millisecond   // nothing for so long: the flood is over
	// In a flood each read waits for so long, and finds what has come meanwhile. To
	// take every line as it comes wakes up this process, and the kernel's worker that
	// hands over what PTYs hold, ten thousand times a second, before other terminals.
	pacePause = 200 * time.Microsecond
	// A read of so much has found half of what the kernel keeps of a PTY's output
	// (12 KiB, drivers/tty/pty.c and n_tty.c): the program must not wait for us.
	paceFull = 6 << 10
)

// pace watches the reads of a PTY.
type pace struct {
	flood bool
	last  time.Time
	began time.Time // of the row
	reads int
}

// after takes a read of n bytes and tells how long the next had better wait, and
// whether a flood has begun or ended.
func (p *pace) after(n int, now time.Time) (pause time.Duration, changed bool) {
	before := p.flood
	if now.Sub(p.last) > paceGap {
		p.flood, p.reads, p.began = false, 0, now
	}
	p.last = now
	if p.reads++; p.reads == paceReads {
		quick := paceReads * paceQuick
		if p.flood {
			quick += paceReads * pacePause * 2
		}
		p.flood = now.Sub(p.began) < quick
		p.reads, p.began = 0, now
	}
	if p.flood && n < paceFull {
		pause = pacePause
	}
	return pause, p.flood != before
}
