package nvml

import (
	"fmt"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// SetMode turns MIG mode on or off. resetPending says that the driver has taken
// the wish but that it comes true at the GPU's next reset, or the machine's next
// start. A GPU that has slices is not turned off, and one that a process uses is
// not changed at all, not at the next reset either: both are MIGInUse.
//
// The driver may reset the GPU within this call, after which its minor number may
// differ.
func (p *Partitioner) SetMode(gpu string, on bool) (resetPending bool, err error) {
	doing, mode := "turn MIG off", gonvml.DEVICE_MIG_DISABLE
	if on {
		doing, mode = "turn MIG on", gonvml.DEVICE_MIG_ENABLE
	}
	return askMIG(p, doing, gpu, migModeLimit, func(d gonvml.Device) (bool, error) { return p.setMode(d, gpu, mode) })
}

func (p *Partitioner) setMode(d gonvml.Device, gpu string, mode int) (resetPending bool, err error) {
	before, pending, code := d.GetMigMode()
	if code != gonvml.SUCCESS {
		return false, migFault("reading the MIG mode", code)
	}
	if before == mode && pending == mode {
		return false, nil
	}
	if mode == gonvml.DEVICE_MIG_DISABLE && before == gonvml.DEVICE_MIG_ENABLE {
		s, err := p.read(d, gpu)
		if err != nil {
			return false, err
		}
		if n := len(s.Slices); n > 0 {
			return false, &MIGError{Kind: MIGInUse, Detail: fmt.Sprintf("it still has slices, %d of them: destroy them first", n)}
		}
	}
	activation, code := d.SetMigMode(mode)
	if code != gonvml.SUCCESS {
		return false, migFault("changing the MIG mode", code)
	}
	switch activation {
	case gonvml.SUCCESS:
		current, _, code := d.GetMigMode()
		if code != gonvml.SUCCESS {
			return false, migFault("reading the MIG mode back", code)
		}
		return current != mode, nil
	case gonvml.ERROR_RESET_REQUIRED:
		return true, nil
	}
	// The driver keeps the wish for the next reset, which nobody would expect of a
	// call that failed.
	failed := migFault("changing the MIG mode", activation)
	if _, code := d.SetMigMode(before); code != gonvml.SUCCESS {
		failed.Detail += fmt.Sprintf("; the change stays pending and comes with the next reset (%v)", code)
	}
	return false, failed
}
