package history

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRecordIsReadAsItIsWrittenAgain gives any bytes a right checksum, so that what
// is behind it is read.
func FuzzRecordIsReadAsItIsWrittenAgain(f *testing.F) {
	l := layout{0b1011}
	s := second{time: 1_800_000_123}
	s.Set(3, 7.5)
	raw := make([]byte, l.fineBytes())
	l.encodeSecond(raw, &s)
	f.Add(l.figures, raw, finePlace(s.time))
	m := minute{time: 1_800_000_120, points: [MaxFigures]uint8{60, 3}, mean: [MaxFigures]float32{1, 2}, max: [MaxFigures]float32{3, 4}}
	raw = make([]byte, l.coarseBytes())
	l.encodeMinute(raw, &m)
	f.Add(l.figures, raw, coarsePlace(m.time))
	f.Fuzz(func(t *testing.T, known uint64, raw []byte, place int64) {
		l := layout{known}
		sized := make([]byte, max(l.fineBytes(), l.coarseBytes()))
		copy(sized, raw)
		binary.LittleEndian.PutUint32(sized, checksum(sized[4:l.fineBytes()]))
		var s, sAgain second
		if l.decodeSecond(sized, place, &s) {
			again := make([]byte, l.fineBytes())
			l.encodeSecond(again, &s)
			if !l.decodeSecond(again, place, &sAgain) || sAgain.time != s.time || sAgain.known != s.known || finePlace(s.time) != place {
				t.Fatalf("%+v became %+v", s, sAgain)
			}
		}
		binary.LittleEndian.PutUint32(sized, checksum(sized[4:l.coarseBytes()]))
		var m, mAgain minute
		if l.decodeMinute(sized, place, &m) {
			again := make([]byte, l.coarseBytes())
			l.encodeMinute(again, &m)
			if !l.decodeMinute(again, place, &mAgain) || mAgain.time != m.time || mAgain.points != m.points || coarsePlace(m.time) != place {
				t.Fatalf("%+v became %+v", m, mAgain)
			}
		}
	})
}

// FuzzDamagedFileIsRefusedOrGoneOnWith writes over a place of a file and cuts it
// off, and then appends.
func FuzzDamagedFileIsRefusedOrGoneOnWith(f *testing.F) {
	f.Add(uint64(0b11), int64(0), []byte{}, int64(1<<20))
	f.Add(uint64(0b11), int64(8), []byte{1, 0, 0, 0, 0, 0, 0, 0x80}, int64(1<<40))
	f.Add(uint64(1), int64(headerBytes+1), []byte("noise"), int64(headerBytes+9))
	f.Add(uint64(1), int64(0), []byte{}, int64(10))
	f.Fuzz(func(t *testing.T, known uint64, at int64, noise []byte, size int64) {
		path := filepath.Join(t.TempDir(), "GPU-a"+ringSuffix)
		l := layout{known}
		if at < 0 || size < 0 || at+int64(len(noise)) > l.fileBytes() || len(noise) > headerBytes {
			return
		}
		content := make([]byte, max(headerBytes, at+int64(len(noise))))
		copy(content, l.header())
		copy(content[at:], noise)
		if err := os.WriteFile(path, content[:min(size, int64(len(content)))], 0o640); err != nil {
			t.Fatal(err)
		}
		r, _, err := openRing(path)
		var damaged errDamaged
		if errors.As(err, &damaged) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		s := second{time: 1_800_000_000}
		if r.layout.has(1) {
			s.Set(0, 2)
		}
		if err := r.append(&s); err != nil {
			t.Fatal(err)
		}
		for _, step := range []int64{1, 60} {
			points, err := r.query(s.time, s.time+step, step)
			if err != nil || len(points) != 1 || points[0].Mean != s.Figures {
				t.Fatalf("points %+v, %v, want %+v", points, err, s.Figures)
			}
		}
	})
}
