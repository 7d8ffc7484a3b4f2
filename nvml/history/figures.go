package history

import (
	"iter"
	"math"
	"math/bits"
	"time"
)

// Figure is the number of something that is measured, below MaxFigures. Files
// outlive programs: a number has one meaning for ever.
type Figure uint8

// Figures are the values of one moment. The zero Figures has none; a value that
// was not set is absent, which is not 0.
type Figures struct {
	known  uint64 // a bit for each
	values [MaxFigures]float32
}

// Set gives a figure a value. One that is no number, or beyond a single-precision
// float, makes it absent.
func (f *Figures) Set(figure Figure, value float64) {
	single := float32(value)
	if math.IsNaN(value) || math.IsInf(float64(single), 0) {
		f.known &^= 1 << figure
		f.values[figure] = 0
		return
	}
	f.known |= 1 << figure
	f.values[figure] = single
}

// Get gives a figure's value, and false when it is absent.
func (f *Figures) Get(figure Figure) (float64, bool) {
	return float64(f.values[figure]), f.known&(1<<figure) != 0
}

// All gives the figures that are there, in order of their numbers.
func (f *Figures) All() iter.Seq2[Figure, float64] {
	return func(yield func(Figure, float64) bool) {
		for rest := f.known; rest != 0; rest &= rest - 1 {
			figure := Figure(bits.TrailingZeros64(rest))
			if !yield(figure, float64(f.values[figure])) {
				return
			}
		}
	}
}

// Point is what a device measured in one step of time.
type Point struct {
	Time      time.Time // UTC, when the step begins
	Mean, Max Figures
}
