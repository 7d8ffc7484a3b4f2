package lease

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// usageLog is the log of charges, open for appending. Records that are appended at
// the same time share one write(2). Each has gone to the queue, in the order of the
// numbers, when append returns, whether it could be written or not.
type usageLog struct {
	dir   string
	epoch logID
	queue *queue

	mu     sync.Mutex // guards what the next write takes
	closed bool
	next   int64 // number
	group  *group
	buf    []byte // the group's records, framed

	writing sync.Mutex // held while a group is written; guards the rest
	spare   []byte
	file    *os.File // nil until there is a record to write
	size    int64
	limit   int64     // of a segment, in bytes
	last    int64     // number in the file
	full    []written // segments before it, that may not be folded yet
	dead    error     // the file has something at its end that can't be taken off it
}

// written is a segment that is not written any more.
type written struct {
	path string
	last int64
}

// group is the records of one write.
type group struct {
	records []record
	done    chan struct{}
	err     error // the write's
}

func newLog(dir string, epoch logID, next int64, q *queue) *usageLog {
	return &usageLog{dir: dir, epoch: epoch, next: next, queue: q, limit: segmentBytes}
}

// append gives the record a number and writes it. After an error of the disk the
// record is in the queue all the same, and its number and a channel are returned
// that says when it has been folded. ErrClosed means that it is nowhere.
func (l *usageLog) append(body []byte, r record) (wait <-chan error, err error) {
	sum := sumOf(l.epoch, body)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	r.number = l.next
	l.next++
	l.buf = appendFramed(l.buf, body, sum, r.number)
	g, first := l.group, false
	if g == nil {
		g, first = &group{done: make(chan struct{})}, true
		l.group = g
	}
	n := len(g.records)
	g.records = append(g.records, r)
	l.mu.Unlock()
	if first {
		l.write()
	} else {
		<-g.done
	}
	return g.records[n].wait, g.err
}

// write writes the group that has gathered, and hands it on to the queue.
func (l *usageLog) write() {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	g, raw := l.group, l.buf
	l.group, l.buf = nil, l.spare[:0]
	l.mu.Unlock()
	g.err = l.put(raw, g.records[0].number, g.records[len(g.records)-1].number)
	if l.spare = raw; cap(raw) > segmentBytes {
		l.spare = nil
	}
	if g.err != nil {
		for n := range g.records {
			g.records[n].wait = make(chan error, 1)
		}
	}
	l.queue.add(g.records)
	close(g.done)
}

// put writes raw, which has the records from first to last, at the end of the log.
// On an error the file is as it was.
func (l *usageLog) put(raw []byte, first, last int64) error {
	if l.dead != nil {
		return l.dead
	}
	if l.file != nil && l.size+int64(len(raw)) > l.limit {
		l.full = append(l.full, written{l.file.Name(), l.last})
		// Nothing was deferred to it: every write has had its answer.
		_ = l.file.Close()
		l.file = nil
	}
	if l.file == nil {
		if err := l.begin(first); err != nil {
			return err
		}
	}
	n, err := l.file.Write(raw)
	if err != nil {
		if cut := l.file.Truncate(l.size); n > 0 && cut != nil {
			l.dead = fmt.Errorf("the log of charges %s can't be written any more until EcoLink is restarted: %w", l.file.Name(), errors.Join(err, cut))
			return l.dead
		}
		return fmt.Errorf("write the log of charges: %w", err)
	}
	l.size, l.last = l.size+int64(n), last
	return nil
}

// begin makes a new segment, whose first record will have the number.
func (l *usageLog) begin(first int64) error {
	path := filepath.Join(l.dir, segmentName(first, l.epoch))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("begin a segment of the log of charges: %w", err)
	}
	l.file, l.size, l.last = f, 0, first-1
	return nil
}

// folded removes the segments that the journal has all records of.
func (l *usageLog) folded(number int64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	var err error
	for len(l.full) > 0 && l.full[0].last <= number {
		err = errors.Join(err, os.Remove(l.full[0].path))
		l.full = l.full[1:]
	}
	return err
}

// close lets nothing more in, and returns when everything that was let in is in
// the queue.
func (l *usageLog) close() {
	l.mu.Lock()
	l.closed = true
	g := l.group
	l.mu.Unlock()
	if g != nil {
		<-g.done
	}
	l.writing.Lock() // the group before it may be on its way still
	defer l.writing.Unlock()
}

// remove closes the file and removes all segments. All must have been folded.
func (l *usageLog) remove() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.file != nil {
		l.full = append(l.full, written{l.file.Name(), l.last})
	}
	err := l.release()
	for _, s := range l.full {
		err = errors.Join(err, os.Remove(s.path))
	}
	l.full = nil
	return err
}

// release closes the file and leaves it where it is.
func (l *usageLog) release() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}
