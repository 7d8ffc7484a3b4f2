package history

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// second is what was measured in one second.
type second struct {
	time int64
	Figures
}

// minute is what was measured in one minute. A figure without points is absent.
type minute struct {
	time   int64
	points [MaxFigures]uint8
	mean   [MaxFigures]float32
	max    [MaxFigures]float32
}

// encodeSecond writes s, whose figures are all in the layout, into dst.
func (l layout) encodeSecond(dst []byte, s *second) {
	binary.LittleEndian.PutUint64(dst[4:], uint64(s.time))
	binary.LittleEndian.PutUint64(dst[12:], s.known)
	at := fineFixedBytes
	for rest := l.figures; rest != 0; rest &= rest - 1 {
		value := s.values[bits.TrailingZeros64(rest)]
		binary.LittleEndian.PutUint32(dst[at:], math.Float32bits(value))
		at += finePerFigure
	}
	binary.LittleEndian.PutUint32(dst, checksum(dst[4:at]))
}

// decodeSecond reads the record at a place of the ring into s, which is the
// caller's, since most places may be empty; false when there is none, or it is
// torn, or of another place.
func (l layout) decodeSecond(raw []byte, place int64, s *second) bool {
	time, known := int64(binary.LittleEndian.Uint64(raw[4:])), binary.LittleEndian.Uint64(raw[12:])
	if time < 0 || finePlace(time) != place || !l.has(known) || binary.LittleEndian.Uint32(raw) != checksum(raw[4:l.fineBytes()]) {
		return false
	}
	*s = second{time: time, Figures: Figures{known: known}}
	at := fineFixedBytes
	for rest := l.figures; rest != 0; rest &= rest - 1 {
		figure := bits.TrailingZeros64(rest)
		if s.known&(1<<figure) != 0 {
			s.values[figure] = math.Float32frombits(binary.LittleEndian.Uint32(raw[at:]))
		}
		at += finePerFigure
	}
	return true
}

func (l layout) encodeMinute(dst []byte, m *minute) {
	binary.LittleEndian.PutUint64(dst[4:], uint64(m.time))
	at := coarseFixed
	for rest := l.figures; rest != 0; rest &= rest - 1 {
		figure := bits.TrailingZeros64(rest)
		dst[at] = m.points[figure]
		binary.LittleEndian.PutUint32(dst[at+1:], math.Float32bits(m.mean[figure]))
		binary.LittleEndian.PutUint32(dst[at+5:], math.Float32bits(m.max[figure]))
		at += coarsePerFigure
	}
	binary.LittleEndian.PutUint32(dst, checksum(dst[4:at]))
}

// decodeMinute is decodeSecond for the coarse ring.
func (l layout) decodeMinute(raw []byte, place int64, m *minute) bool {
	time := int64(binary.LittleEndian.Uint64(raw[4:]))
	if time < 0 || time%minuteSeconds != 0 || coarsePlace(time) != place || binary.LittleEndian.Uint32(raw) != checksum(raw[4:l.coarseBytes()]) {
		return false
	}
	*m = minute{time: time}
	at := coarseFixed
	for rest := l.figures; rest != 0; rest &= rest - 1 {
		figure := bits.TrailingZeros64(rest)
		if m.points[figure] = raw[at]; raw[at] > minuteSeconds {
			return false
		}
		m.mean[figure] = math.Float32frombits(binary.LittleEndian.Uint32(raw[at+1:]))
		m.max[figure] = math.Float32frombits(binary.LittleEndian.Uint32(raw[at+5:]))
		at += coarsePerFigure
	}
	return true
}

// finePlace and coarsePlace are where in its ring a time is.
func finePlace(time int64) int64   { return time % FineSeconds }
func coarsePlace(time int64) int64 { return time / minuteSeconds % CoarseMinutes }

// minuteOf is the beginning of the minute that a second is in.
func minuteOf(time int64) int64 { return time - time%minuteSeconds }
