package simulated

import (
	"fmt"
	"strings"
)

// MaxGPUs is the most GPUs that a simulated machine has: a DGX's eight.
const MaxGPUs = 8

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
		digit, ok := strings.CutPrefix(s, gpuType+"x")
		if ok && len(digit) == 1 && digit[0] >= '1' && digit[0] <= '0'+MaxGPUs {
			return Layout{Type: gpuType, Count: int(digit[0] - '0')}, nil
		}
	}
	return Layout{}, fmt.Errorf("no simulated machine %q: use <type>x<count> with type %s and count 1 to %d, such as h100x8",
		s, strings.Join(Types(), ", "), MaxGPUs)
}

// String is the layout as the operator writes it, such as h100x8.
func (l Layout) String() string { return fmt.Sprintf("%sx%d", l.Type, l.Count) }
