package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	specs "tags.cncf.io/container-device-interface/specs-go"

	"ecolink/nvml"
)

// nvidiaKind is the CDI kind that NVIDIA's tools use; a device is named by its UUID.
const nvidiaKind = "nvidia.com/gpu"

// modprobeLimit bounds nvidia-modprobe, which loads a kernel module.
const modprobeLimit = 30 * time.Second

// generator describes the GPUs with the given UUIDs; generateNVIDIA is the real one.
type generator func(uuids []string) (*specs.Spec, error)

// loadNVIDIA generates the description of all whole GPUs, writes it to path for
// people to look at, and reads it back by CDI's own reader, which checks it.
// Nil when there is no whole GPU. A GPU in MIG mode is left out: it cannot be
// used whole, and its device node alone would show its slices to each other.
func loadNVIDIA(gpus []nvml.GPU, path string, generate generator) (*cdi.Spec, error) {
	var uuids []string
	for _, g := range gpus {
		if !g.MIGEnabled {
			uuids = append(uuids, g.UUID)
		}
	}
	if len(uuids) == 0 {
		return nil, nil
	}
	raw, err := generate(uuids)
	if err != nil {
		return nil, err
	}
	if err := checkNVIDIA(raw, uuids); err != nil {
		return nil, err
	}
	content, err := json.MarshalIndent(raw, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := writeFile(path, content); err != nil {
		return nil, err
	}
	return cdi.ReadSpec(path, 0)
}

// nameNVIDIA names whole GPUs; nothing has to be written for one owner.
func (in *Injector) nameNVIDIA(gpus []nvml.GPU) ([]string, error) {
	var names []string
	for _, g := range gpus {
		if in.nvidia == nil || in.nvidia.GetDevice(g.UUID) == nil {
			return nil, fmt.Errorf("GPU %q cannot be given whole: it is partitioned into MIG slices", g.UUID)
		}
		names = append(names, nvidiaKind+"="+g.UUID)
	}
	return names, nil
}

// generateNVIDIA asks NVIDIA's generator, which looks for the driver's libraries
// and device nodes on this machine.
func generateNVIDIA(uuids []string) (*specs.Spec, error) {
	hook, err := exec.LookPath("nvidia-cdi-hook")
	if err != nil {
		return nil, fmt.Errorf("containers with GPUs need nvidia-cdi-hook: install NVIDIA's package nvidia-container-toolkit-base: %w", err)
	}
	loadUVM()
	return describeNVIDIA(uuids, nvcdi.WithNVIDIACDIHookPath(hook))
}

// describeNVIDIA is the generator's configuration, and whatever options a test adds.
func describeNVIDIA(uuids []string, more ...nvcdi.Option) (*specs.Spec, error) {
	byUUID, err := nvcdi.NewDeviceNamer(nvcdi.DeviceNameStrategyUUID)
	if err != nil {
		return nil, err
	}
	lib, err := nvcdi.New(append([]nvcdi.Option{
		nvcdi.WithMode(nvcdi.ModeNvml),
		nvcdi.WithDeviceNamers(byUUID),
		nvcdi.WithLogger(debugLog{}),
		// Sockets of the host's nvidia-persistenced, fabric manager and MPS: CUDA
		// needs none of them, and containers of several accounts would share them.
		nvcdi.WithFeatureFlags(nvcdi.FeatureDisableIPCDiscoverer),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("start NVIDIA's CDI generator: %w", err)
	}
	spec, err := lib.GetSpec(uuids...)
	if err != nil {
		return nil, fmt.Errorf("describe the GPUs by NVIDIA's CDI generator: %w: `nvidia-ctk cdi generate --mode=nvml` shows the details", err)
	}
	return spec.Raw(), nil
}

// loadUVM makes /dev/nvidia-uvm, which CUDA needs and which does not exist after
// a reboot until somebody asks for it. If it cannot, checkNVIDIA tells.
func loadUVM() {
	if _, err := os.Stat("/dev/nvidia-uvm"); err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), modprobeLimit)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "nvidia-modprobe", "-u", "-c=0").CombinedOutput(); err != nil {
		slog.Debug("nvidia-modprobe failed", "error", err, "output", string(out))
	}
}

// checkNVIDIA refuses a description with which containers would start and CUDA
// would fail: the generator silently leaves out device nodes that do not exist.
func checkNVIDIA(spec *specs.Spec, uuids []string) error {
	if spec.Kind != nvidiaKind {
		return fmt.Errorf("NVIDIA's CDI generator describes %q instead of %s", spec.Kind, nvidiaKind)
	}
	var errs []error
	for _, path := range []string{"/dev/nvidiactl", "/dev/nvidia-uvm"} {
		if !slices.ContainsFunc(spec.ContainerEdits.DeviceNodes, func(n *specs.DeviceNode) bool { return n.Path == path }) {
			errs = append(errs, fmt.Errorf("%s does not exist: run `nvidia-modprobe -u -c=0`", path))
		}
	}
	for _, uuid := range uuids {
		if !slices.ContainsFunc(spec.Devices, func(d specs.Device) bool { return d.Name == uuid && len(d.ContainerEdits.DeviceNodes) > 0 }) {
			errs = append(errs, fmt.Errorf("GPU %s has no device node: run `nvidia-modprobe -c=0` for each GPU and look at /dev/nvidia*", uuid))
		}
	}
	return errors.Join(errs...)
}

// debugLog takes the generator's messages. Its warnings are about optional
// libraries that most machines lack; what matters it returns as an error.
type debugLog struct{}

func (debugLog) Tracef(string, ...any)               {}
func (debugLog) Debugf(string, ...any)               {}
func (debugLog) Infof(format string, args ...any)    { debugf(format, args...) }
func (debugLog) Warningf(format string, args ...any) { debugf(format, args...) }
func (debugLog) Errorf(format string, args ...any)   { debugf(format, args...) }

func debugf(format string, args ...any) {
	slog.Debug("describe GPUs by nvcdi", "message", fmt.Sprintf(format, args...))
}
