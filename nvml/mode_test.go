package nvml

import (
	"strconv"
	"strings"
	"testing"
)

func TestBadModeIsRefusedWithTheValueAndTheValidOnes(t *testing.T) {
	for _, mode := range []string{
		"", "Auto", "auto ", "simulated", "simulated:", "simulated:h100", "simulated:h100x", "simulated:h100x0",
		"simulated:h100x17", "simulated:h100x160", "simulated:h100x08", "simulated:h100x-1", "simulated:H100x8",
		"simulated:v100x8", "simulated:h100x8 ", "simulated: h100x8", "h100x8", "simulated:h100x8,a100x1", "simulated:xx1",
	} {
		l, err := Open(mode)
		if err == nil {
			_ = l.Close()
			t.Errorf("Open(%q) succeeded", mode)
			continue
		}
		for _, want := range []string{strconv.Quote(mode), `"auto"`, "a100, h100, h200, b200", "1 to 16", "simulated:h100x8"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("Open(%q) = %q, which does not say %s", mode, err, want)
			}
		}
	}
}

func FuzzModeIsReadExactlyAsItIsWritten(f *testing.F) {
	for _, seed := range []string{"auto", "simulated:h100x8", "simulated:a100x1", "simulated:b200x0", "simulated:", "", "simulated:h100x８"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, mode string) {
		layout, err := parseMode(mode)
		switch {
		case err != nil:
			if !strings.Contains(err.Error(), strconv.Quote(mode)) {
				t.Fatalf("error %q does not name %q", err, mode)
			}
		case layout == nil:
			if mode != "auto" {
				t.Fatalf("%q was read as auto", mode)
			}
		default:
			if back := "simulated:" + layout.String(); back != mode {
				t.Fatalf("%q was read as %q", mode, back)
			}
			if layout.Count < 1 || layout.Count > 16 {
				t.Fatalf("%q has %d GPUs", mode, layout.Count)
			}
		}
	})
}
