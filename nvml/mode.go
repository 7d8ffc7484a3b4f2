package nvml

import (
	"fmt"
	"strings"

	"ecolink/nvml/simulated"
)

const (
	modeAuto        = "auto"
	simulatedPrefix = "simulated:"
)

// parseMode reads the operator's choice of GPUs. A nil layout is modeAuto.
func parseMode(mode string) (*simulated.Layout, error) {
	if mode == modeAuto {
		return nil, nil
	}
	if machine, ok := strings.CutPrefix(mode, simulatedPrefix); ok {
		if layout, err := simulated.ParseLayout(machine); err == nil {
			return &layout, nil
		}
	}
	return nil, fmt.Errorf("unknown GPU mode %q: use %q for the GPUs of this machine, or \"%s<type>x<count>\" with type %s and count 1 to %d, such as %sh100x8",
		mode, modeAuto, simulatedPrefix, strings.Join(simulated.Types(), ", "), simulated.MaxGPUs, simulatedPrefix)
}
