package history

import (
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what a file must have, kept as plainly as can be.
type model struct {
	fine   map[int64]second // by place
	coarse map[int64]minute // by place
	open   int64
}

func newModel() *model {
	return &model{fine: map[int64]second{}, coarse: map[int64]minute{}, open: -1}
}

func (m *model) append(s second) {
	if at := minuteOf(s.time); at != m.open {
		m.rollUp(m.open)
		m.open = at
	}
	m.fine[finePlace(s.time)] = s
}

func (m *model) rollUp(time int64) {
	if of, ok := m.minuteOf(time); ok {
		m.coarse[coarsePlace(time)] = of
	}
}

// minuteOf is a minute as its seconds make it.
func (m *model) minuteOf(time int64) (_ minute, ok bool) {
	if time < 0 {
		return minute{}, false
	}
	var total [MaxFigures]float64
	out := minute{time: time}
	for t := time; t < time+60; t++ {
		s, there := m.fine[finePlace(t)]
		if !there || s.time != t {
			continue
		}
		ok = true
		for figure, value := range s.All() {
			if out.points[figure] == 0 || float32(value) > out.max[figure] {
				out.max[figure] = float32(value)
			}
			out.points[figure]++
			total[figure] += value
			out.mean[figure] = float32(total[figure] / float64(out.points[figure]))
		}
	}
	return out, ok
}

// reopen is what a crash and a new start do.
func (m *model) reopen() {
	minutes := map[int64]bool{}
	m.open = -1
	for _, s := range m.fine {
		minutes[minuteOf(s.time)] = true
		m.open = max(m.open, minuteOf(s.time))
	}
	for at := range minutes {
		if old, there := m.coarse[coarsePlace(at)]; at != m.open && (!there || old.time != at) {
			m.rollUp(at)
		}
	}
}

// points are what a query must give: to each time, each figure's mean and max.
func (m *model) points(from, to, step int64) map[int64]Point {
	sums := map[int64]*sum{}
	of := func(time int64) *sum {
		begin := time - time%step
		if sums[begin] == nil {
			sums[begin] = &sum{}
		}
		return sums[begin]
	}
	if step < 60 {
		for _, s := range m.fine {
			if s.time >= from && s.time < to {
				of(s.time).addSecond(&s)
			}
		}
	} else {
		for _, c := range m.coarse {
			if c.time >= from && c.time < to && c.time != m.open {
				of(c.time).addMinute(&c)
			}
		}
		if last, ok := m.minuteOf(m.open); ok && m.open >= from && m.open < to {
			of(m.open).addMinute(&last)
		}
	}
	out := map[int64]Point{}
	for begin, s := range sums {
		out[begin] = s.point()
	}
	return out
}

// same allows for sums that were added up in another order.
func same(a, b Figures) bool {
	if a.known != b.known {
		return false
	}
	for figure, x := range a.All() {
		if y, _ := b.Get(figure); math.Abs(x-y) > 1e-5*max(1, math.Abs(x)) {
			return false
		}
	}
	return true
}

// crashing is a history of one device beside its model.
type crashing struct {
	dir   string
	h     *History
	model *model
	now   int64
}

const testDevice = "GPU-1"

func (c *crashing) path() string { return filepath.Join(c.dir, testDevice+ringSuffix) }

func (c *crashing) start(t *rapid.T) {
	h, err := Open(c.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.h = h
}

func (c *crashing) append(t *rapid.T) {
	s := second{time: c.now}
	for _, figure := range rapid.SliceOfN(rapid.SampledFrom([]Figure{0, 1, 5, 63}), 0, 3).Draw(t, "figures") {
		s.Set(figure, rapid.Float64Range(-1e6, 1e9).Draw(t, "value"))
	}
	if err := c.h.Append(testDevice, time.Unix(c.now, 0), s.Figures); err != nil {
		t.Fatal(err)
	}
	c.model.append(s)
}

func (c *crashing) jump(t *rapid.T) {
	c.now += rapid.SampledFrom([]int64{1, 1, 2, 7, 59, 60, 61, 3599, 3600, 86400, 31 * 86400, -1, -30, -3600, -86400}).Draw(t, "jump")
	c.now = max(0, c.now)
}

func (c *crashing) crash(t *rapid.T) {
	if err := c.h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.path()); err == nil {
		c.model.reopen()
	}
	c.start(t)
	// Only who uses the file recovers it.
	if _, err := c.h.Query(testDevice, time.Unix(c.now, 0), time.Unix(c.now+1, 0), time.Second); err != nil {
		t.Fatal(err)
	}
}

// damage cuts the file off or writes over a part of it, while nothing runs. What
// is there afterwards was there before, and what the damage did not touch is.
func (c *crashing) damage(t *rapid.T) {
	r, err := c.h.ringToRead(testDevice + ringSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	l := r.layout
	if err := c.h.Close(); err != nil {
		t.Fatal(err)
	}
	touched := c.hurt(t, l)
	old := *c.model
	c.start(t)
	c.model = c.readBack(t)
	if touched(0, headerBytes) {
		return // it may have been begun anew
	}
	for place, s := range old.fine {
		if !touched(headerBytes+place*l.fineBytes(), l.fineBytes()) && c.model.fine[place] != s {
			t.Fatalf("second %d was not damaged and became %+v", s.time, c.model.fine[place])
		}
	}
	for place, m := range old.coarse {
		// Another minute of this place may have come from the seconds.
		now, there := c.model.coarse[place]
		if !touched(l.coarseAt()+place*l.coarseBytes(), l.coarseBytes()) && now != m && (!there || now.time == m.time) {
			t.Fatalf("minute %d was not damaged and became %+v", m.time, now)
		}
	}
	for place, s := range c.model.fine {
		if old.fine[place] != s {
			t.Fatalf("second %d was never appended: %+v", s.time, s)
		}
	}
	for place, m := range c.model.coarse {
		again, _ := c.model.minuteOf(m.time)
		if old.coarse[place] != m && again != m {
			t.Fatalf("minute %d is neither what it was nor what its seconds make it: %+v", m.time, m)
		}
	}
}

// hurt damages the file, mostly where something is, and tells which parts may be
// gone.
func (c *crashing) hurt(t *rapid.T, l layout) (touched func(at, n int64) bool) {
	at, most := c.target(t, l)
	if rapid.Bool().Draw(t, "truncate") {
		if err := os.Truncate(c.path(), at); err != nil {
			t.Fatal(err)
		}
		return func(from, n int64) bool { return from+n > at }
	}
	noise := make([]byte, min(rapid.Int64Range(1, most).Draw(t, "length"), l.fileBytes()-at))
	seed := rapid.Uint64().Draw(t, "noise")
	random := rand.New(rand.NewPCG(seed, seed))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	file, err := os.OpenFile(c.path(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(noise, at); err != nil {
		t.Fatal(err)
	}
	return func(from, n int64) bool { return from < at+int64(len(noise)) && at < from+n }
}

// target is where to damage the file and how many bytes of it at most: anywhere,
// about the header, or within a record.
func (c *crashing) target(t *rapid.T, l layout) (at, most int64) {
	within := func(places []int64, base, size int64) (int64, int64) {
		place := rapid.SampledFrom(places).Draw(t, "place")
		return base + place*size + rapid.Int64Range(0, size-1).Draw(t, "at"), 9
	}
	switch part := rapid.SampledFrom([]string{"any", "header", "second", "minute"}).Draw(t, "part"); {
	case part == "header":
		return rapid.Int64Range(0, headerBytes+64).Draw(t, "at"), 64
	case part == "second" && len(c.model.fine) > 0:
		return within(slices.Sorted(maps.Keys(c.model.fine)), headerBytes, l.fineBytes())
	case part == "minute" && len(c.model.coarse) > 0:
		return within(slices.Sorted(maps.Keys(c.model.coarse)), l.coarseAt(), l.coarseBytes())
	default:
		return rapid.Int64Range(0, l.fileBytes()-1).Draw(t, "at"), 3000
	}
}

// readBack is all that the file has.
func (c *crashing) readBack(t *rapid.T) *model {
	out := newModel()
	r, err := c.h.ringToRead(testDevice + ringSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return out
	}
	if err != nil {
		t.Fatal(err)
	}
	out.open = r.open
	if err := r.eachSecond(0, FineSeconds, func(s *second) { out.fine[finePlace(s.time)] = *s }); err != nil {
		t.Fatal(err)
	}
	if err := r.eachMinute(0, CoarseMinutes, func(m *minute) { out.coarse[coarsePlace(m.time)] = *m }); err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *crashing) query(t *rapid.T) {
	step := rapid.SampledFrom([]int64{1, 2, 7, 30, 60, 120, 3600, 86400}).Draw(t, "step")
	from := max(0, c.now-rapid.Int64Range(0, 4000*step).Draw(t, "before"))
	from -= from % step
	to := from + step*rapid.Int64Range(1, MaxPoints).Draw(t, "steps")
	got, err := c.h.Query(testDevice, time.Unix(from, 0), time.Unix(to, 0), time.Duration(step)*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	want := c.model.points(from, to, step)
	if len(got) != len(want) {
		t.Fatalf("%d points and not %d", len(got), len(want))
	}
	last := int64(-1)
	for _, p := range got {
		at := p.Time.Unix()
		if w, there := want[at]; !there || at <= last || !same(p.Mean, w.Mean) || !same(p.Max, w.Max) {
			t.Fatalf("point %d after %d is %+v, want %+v", at, last, p, w)
		}
		last = at
	}
}

func TestHistoryHasWhatWasAppendedAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "history")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		c := &crashing{dir: dir, model: newModel(), now: 1_800_000_000 + rapid.Int64Range(0, 4000).Draw(t, "start")}
		c.start(t)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) { c.append(t) },
			"append a run": func(t *rapid.T) {
				for range rapid.IntRange(2, 130).Draw(t, "seconds") {
					c.append(t)
					c.now++
				}
			},
			"clock":  c.jump,
			"crash":  c.crash,
			"damage": c.damage,
			"query":  c.query,
		})
		if err := c.h.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
