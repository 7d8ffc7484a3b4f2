package history

import (
	"maps"
	"os"
	"slices"
	"time"
)

// query gives the points of [from, to) in steps of so many seconds, a multiple of
// 60 when it is 60 or more. All are seconds since 1970, from a multiple of step.
func (r *ring) query(from, to, step int64) ([]Point, error) {
	in := steps{length: step, sums: map[int64]*sum{}}
	var err error
	if step < minuteSeconds {
		err = r.addSeconds(in, from, to)
	} else {
		err = r.addMinutes(in, from, to)
	}
	return in.points(), err
}

// steps are sums by the time at which a step begins.
type steps struct {
	length int64
	sums   map[int64]*sum
}

func (s steps) of(time int64) *sum {
	begin := time / s.length * s.length
	of := s.sums[begin]
	if of == nil {
		of = &sum{}
		s.sums[begin] = of
	}
	return of
}

func (s steps) points() []Point {
	out := make([]Point, 0, len(s.sums))
	for _, begin := range slices.Sorted(maps.Keys(s.sums)) {
		p := s.sums[begin].point()
		p.Time = time.Unix(begin, 0).UTC()
		out = append(out, p)
	}
	return out
}

func (r *ring) addSeconds(in steps, from, to int64) error {
	return r.scan(FineSeconds, finePlace(from), to-from, func(place, n int64) error {
		return r.eachSecond(place, n, func(s *second) {
			if s.time >= from && s.time < to {
				in.of(s.time).addSecond(s)
			}
		})
	})
}

// addMinutes takes the minute that is being appended to from its seconds.
func (r *ring) addMinutes(in steps, from, to int64) error {
	var open int64
	err := r.reading(func() error {
		open = r.open
		if open < from || open >= to {
			return nil
		}
		m, any, err := r.sumMinute(open)
		if any {
			in.of(open).addMinute(&m)
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.scan(CoarseMinutes, coarsePlace(from), (to-from)/minuteSeconds, func(place, n int64) error {
		return r.eachMinute(place, n, func(m *minute) {
			if m.time >= from && m.time < to && m.time != open {
				in.of(m.time).addMinute(m)
			}
		})
	})
}

// scan reads n places of a ring from one on, around its end, and each once when n
// is more. It lets others append between two chunks.
func (r *ring) scan(length, place, n int64, each func(place, n int64) error) error {
	for n = min(n, length); n > 0; {
		part := min(n, chunkRecords, length-place)
		if err := r.reading(func() error { return each(place, part) }); err != nil {
			return err
		}
		place, n = (place+part)%length, n-part
	}
	return nil
}

// reading runs read while nothing is written.
func (r *ring) reading(read func() error) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.file == nil {
		return os.ErrClosed
	}
	return read()
}
