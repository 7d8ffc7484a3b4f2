package logfile

import (
	"bytes"
	"time"
)

// batchBytes is how much is gathered before it is written at the latest.
const batchBytes = 128 << 10

// batch gathers records for one write.
type batch struct {
	records []byte
	stamp   []byte // the time of the records that are being added
	write   func(records []byte)
}

// at sets the time of the records that follow.
func (b *batch) at(t time.Time) { b.stamp = appendStamp(b.stamp[:0], t) }

func (b *batch) add(stream string, text []byte, partial bool) {
	b.records = appendRecord(b.records, b.stamp, stream, text, partial)
	if len(b.records) >= batchBytes {
		b.flush()
	}
}

func (b *batch) flush() {
	if len(b.records) > 0 {
		b.write(b.records)
		b.records = b.records[:0]
	}
}

// stream cuts one pipe's bytes into lines. It holds MaxTextBytes at most.
type stream struct {
	name    string
	pending []byte    // the beginning of a line whose newline has not come
	since   time.Time // when pending began; meaningful while it is not empty
}

// feed adds the lines that p completes to b and keeps the rest.
func (s *stream) feed(b *batch, p []byte, now time.Time) {
	for len(p) > 0 {
		part, _, ended := bytes.Cut(p, []byte{'\n'})
		if room := MaxTextBytes - len(s.pending); len(part) > room {
			s.hold(part[:room], now)
			s.flush(b)
			p = p[room:]
			continue
		}
		if !ended {
			s.hold(part, now)
			return
		}
		if len(s.pending) == 0 {
			b.add(s.name, part, false)
		} else {
			s.pending = append(s.pending, part...)
			b.add(s.name, s.pending, false)
			s.pending = s.pending[:0]
		}
		p = p[len(part)+1:]
	}
}

func (s *stream) hold(part []byte, now time.Time) {
	if len(s.pending) == 0 {
		s.since = now
	}
	s.pending = append(s.pending, part...)
}

// overdue reports whether an unfinished line has waited long enough.
func (s *stream) overdue(now time.Time) bool {
	return len(s.pending) > 0 && now.Sub(s.since) >= partialAfter
}

// flush adds the unfinished line, if any, as a partial record.
func (s *stream) flush(b *batch) {
	if len(s.pending) > 0 {
		b.add(s.name, s.pending, true)
		s.pending = s.pending[:0]
	}
}
