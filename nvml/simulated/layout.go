package simulated

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxGPUs is the most GPUs that a simulated machine has: two boards of a DGX's
// eight, which one NVSwitch fabric joins, as in NVIDIA's DGX-2 and HGX with 16.
const MaxGPUs = 2 * boardGPUs

// boardGPUs is how many GPUs are on one board of a DGX.
const boardGPUs = 8

// Layout says which machine to simulate.
type Layout struct {
	Type  string // one of Types()
	Count int    // GPUs, 1 to MaxGPUs
}

// Types lists the GPU types that can be simulated, oldest first.
func Types() []string {
	var out []string
	for _, m := range models() {
		out = append(out, m.gpuType)
	}
	return out
}

// ParseLayout reads "<type>x<count>", such as h100x8. It takes exactly what
// String writes; the error names the value and the valid ones.
func ParseLayout(s string) (Layout, error) {
	for _, gpuType := range Types() {
		digits, ok := strings.CutPrefix(s, gpuType+"x")
		if !ok {
			continue
		}
		count, err := strconv.Atoi(digits)
		if l := (Layout{Type: gpuType, Count: count}); err == nil && count >= 1 && count <= MaxGPUs && l.String() == s {
			return l, nil
		}
	}
	return Layout{}, fmt.Errorf("no simulated machine %q: use <type>x<count> with type %s and count 1 to %d, such as h100x8",
		s, strings.Join(Types(), ", "), MaxGPUs)
}

// String is the layout as the operator writes it, such as h100x8.
func (l Layout) String() string { return fmt.Sprintf("%sx%d", l.Type, l.Count) }
