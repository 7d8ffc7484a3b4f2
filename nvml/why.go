package nvml

import (
	"fmt"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// whyNoDriver explains nvmlInit's answer; empty for success.
func whyNoDriver(code gonvml.Return) string {
	switch code {
	case gonvml.SUCCESS:
		return ""
	case gonvml.ERROR_LIBRARY_NOT_FOUND:
		return "no NVIDIA driver found (libnvidia-ml.so.1 cannot be loaded): install the NVIDIA driver, " + orSimulate
	case gonvml.ERROR_DRIVER_NOT_LOADED:
		return "the NVIDIA driver is installed but its kernel module is not loaded: load it (modprobe nvidia) and look at dmesg if that fails, " + orSimulate
	case gonvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return "the NVIDIA driver was upgraded but its old kernel module is still loaded: reboot this machine, and EcoLink will find its GPUs"
	case gonvml.ERROR_NO_PERMISSION:
		return "EcoLink may not open the NVIDIA driver (/dev/nvidiactl): run it as root"
	default:
		return fmt.Sprintf("the NVIDIA driver does not start (%v): look at dmesg and the output of nvidia-smi, %s", code, orSimulate)
	}
}

const orSimulate = "or start with --gpus simulated:h100x8 to try EcoLink without GPUs"

func whyNoGPUs(inv Inventory) string {
	if len(inv.Problems) == 0 {
		return fmt.Sprintf("the NVIDIA driver %s finds no GPU in this machine: look at lspci and dmesg, %s", inv.DriverVersion, orSimulate)
	}
	return fmt.Sprintf("none of this machine's %d GPUs can be used: %s", len(inv.Problems), inv.Problems[0].Detail)
}
