package device

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"tags.cncf.io/container-device-interface/pkg/cdi"

	"ecolink/nvml"
)

// Injector turns GPUs into CDI devices and applies them to container specs. It
// is safe for concurrent use. Make one by New; there must be one per directory.
type Injector struct {
	gpus         map[string]nvml.GPU // by UUID
	simulatedAs  string              // which machine is simulated; empty for real GPUs
	simulatedDir string              // the owners' files; the directory says who has any
	nvidia       *cdi.Spec           // all real GPUs; nil when there are none. Never changed: see Inject

	mu sync.Mutex // one writer of owners' files at a time: an owner has two, which belong together
}

// New prepares for the GPUs of one inventory, with files below stateDir, which
// is made if it is missing. For real GPUs it generates stateDir/nvidia.json
// anew, which takes a second or so and needs NVIDIA's container toolkit: an
// error says what is missing. A change of driver, GPUs or MIG mode needs a new
// Injector.
func New(inv nvml.Inventory, stateDir string) (*Injector, error) {
	return newInjector(inv, stateDir, generateNVIDIA)
}

// newInjector is New with the generator of real GPUs as a parameter.
func newInjector(inv nvml.Inventory, stateDir string, generate generator) (*Injector, error) {
	stateDir, err := filepath.Abs(stateDir) // an OCI mount needs an absolute source
	if err != nil {
		return nil, fmt.Errorf("prepare GPU devices: %w", err)
	}
	in := &Injector{gpus: map[string]nvml.GPU{}, simulatedDir: filepath.Join(stateDir, "simulated")}
	for _, g := range inv.GPUs {
		in.gpus[g.UUID] = g
	}
	if inv.Simulated {
		in.simulatedAs = inv.SimulatedAs
	}
	if err := os.MkdirAll(in.simulatedDir, 0o755); err != nil {
		return nil, fmt.Errorf("prepare GPU devices: %w", err)
	}
	for _, dir := range []string{stateDir, in.simulatedDir} {
		if err := sweep(dir); err != nil {
			return nil, fmt.Errorf("prepare GPU devices: %w", err)
		}
	}
	if inv.Simulated {
		return in, nil
	}
	in.nvidia, err = loadNVIDIA(inv.GPUs, filepath.Join(stateDir, "nvidia.json"), generate)
	if err != nil {
		return nil, fmt.Errorf("prepare GPU devices: %w", err)
	}
	return in, nil
}

// Prepare makes an owner's GPUs ready and returns the CDI names to Inject, none
// for no GPUs. The owner is a name such as instance-142; a UUID that is not in
// the inventory, or is given twice, is an error that names it. Doing it again
// changes nothing; doing it with other GPUs replaces the owner's. For simulated
// GPUs it writes files, which stay until Release.
func (in *Injector) Prepare(owner string, uuids []string) ([]string, error) {
	if err := checkOwner(owner); err != nil {
		return nil, fmt.Errorf("prepare GPUs: %w", err)
	}
	gpus, err := in.find(uuids)
	if err != nil {
		return nil, fmt.Errorf("prepare GPUs for %s: %w", owner, err)
	}
	if len(gpus) == 0 {
		return nil, nil
	}
	names, err := in.prepare(owner, gpus)
	if err != nil {
		return nil, fmt.Errorf("prepare GPUs for %s: %w", owner, err)
	}
	return names, nil
}

func (in *Injector) prepare(owner string, gpus []nvml.GPU) ([]string, error) {
	if in.simulatedAs != "" {
		return in.prepareSimulated(owner, gpus)
	}
	return in.nameNVIDIA(gpus)
}

func (in *Injector) find(uuids []string) ([]nvml.GPU, error) {
	var out []nvml.GPU
	for i, uuid := range uuids {
		g, known := in.gpus[uuid]
		switch {
		case !known:
			return nil, fmt.Errorf("no GPU %q in this machine", uuid)
		case slices.Contains(uuids[:i], uuid):
			return nil, fmt.Errorf("GPU %q is asked for twice", uuid)
		}
		out = append(out, g)
	}
	return out, nil
}

// Release removes what Prepare wrote for an owner, if anything. A container that
// still runs keeps what it has.
func (in *Injector) Release(owner string) error {
	if err := checkOwner(owner); err != nil {
		return fmt.Errorf("release GPUs: %w", err)
	}
	if err := in.releaseSimulated(owner); err != nil {
		return fmt.Errorf("release GPUs of %s: %w", owner, err)
	}
	return nil
}

// Owners lists, in order, who has files on disk, those of an earlier run
// included. Owners of real GPUs have none. It reads a directory: it is for the
// reconcile loop, not for launches.
func (in *Injector) Owners() ([]string, error) {
	owners, err := in.simulatedOwners()
	if err != nil {
		return nil, fmt.Errorf("list owners of GPUs: %w", err)
	}
	return owners, nil
}
