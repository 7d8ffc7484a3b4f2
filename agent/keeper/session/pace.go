package session

import "time"

// When reads of the PTY are a flood: after a row of them that came quickly, one
// after the other. A key's echo is never part of one.
const (
	paceReads = 16
	paceQuick = 500 * time.Microsecond // from one read to the next, on average
	paceGap   = 5 * time.Millisecond   // nothing for so long: the flood is over
	// A program that writes its lines one by one makes a read of each. When reads
	// are as small as this on average, the next waits for so long, and finds more.
	paceCrumb = 1 << 10
	pacePause = time.Millisecond
	// A read of so much has found about what the kernel keeps of a PTY's output
	// (4 KiB, N_TTY_BUF_SIZE): the program waits for us, and we must not for it.
	paceFull = 2 << 10
)

// pace watches the reads of a PTY.
type pace struct {
	flood  bool
	crumbs bool // and the reads are small
	last   time.Time
	began  time.Time // of the row
	reads  int
	bytes  int
}

// after takes a read of n bytes and tells how long the next had better wait, and
// whether a flood has begun or ended.
func (p *pace) after(n int, now time.Time) (pause time.Duration, changed bool) {
	before := p.flood
	if now.Sub(p.last) > paceGap {
		p.flood, p.crumbs = false, false
		p.reads, p.bytes, p.began = 0, 0, now
	}
	p.last = now
	p.reads++
	p.bytes += n
	if p.reads == paceReads {
		quick := paceReads * paceQuick
		if p.crumbs {
			quick += paceReads * pacePause * 2
		}
		p.flood = now.Sub(p.began) < quick
		// With pauses between them reads are larger, and still are crumbs.
		p.crumbs = p.flood && (p.crumbs && p.bytes < paceReads*paceCrumb*16 || p.bytes < paceReads*paceCrumb)
		p.reads, p.bytes, p.began = 0, 0, now
	}
	if p.crumbs && n < paceFull {
		pause = pacePause
	}
	return pause, p.flood != before
}
