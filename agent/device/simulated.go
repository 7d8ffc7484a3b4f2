package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tags.cncf.io/container-device-interface/pkg/cdi"
	specs "tags.cncf.io/container-device-interface/specs-go"

	"ecolink/nvml"
)

// simulatedKind is the CDI kind of simulated GPUs: one device for each owner,
// named as the owner is.
const simulatedKind = "ecolink.dev/simulated-gpu"

// descriptionPath is where a container finds the description of its GPUs.
const descriptionPath = "/run/ecolink/gpus.txt"

const (
	specSuffix        = ".json"
	descriptionSuffix = ".txt"
)

func (in *Injector) prepareSimulated(owner string, gpus []nvml.GPU) ([]string, error) {
	description := filepath.Join(in.simulatedDir, owner+descriptionSuffix)
	content, err := json.MarshalIndent(simulatedSpec(owner, gpus, description), "", "  ")
	if err != nil {
		return nil, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	// The spec names the description, so it comes second and goes first.
	if err := writeFile(description, describe(in.simulatedAs, gpus)); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(in.simulatedDir, owner+specSuffix), content); err != nil {
		return nil, err
	}
	return []string{simulatedKind + "=" + owner}, nil
}

func simulatedSpec(owner string, gpus []nvml.GPU, description string) specs.Spec {
	uuids := make([]string, len(gpus))
	for i, g := range gpus {
		uuids[i] = g.UUID
	}
	return specs.Spec{
		Version: "0.4.0", // the first with a mount's type
		Kind:    simulatedKind,
		Devices: []specs.Device{{
			Name: owner,
			ContainerEdits: specs.ContainerEdits{
				Env: []string{visibleDevices + "=" + strings.Join(uuids, ",")},
				Mounts: []*specs.Mount{{
					HostPath:      description,
					ContainerPath: descriptionPath,
					Type:          "bind",
					Options:       []string{"bind", "ro", "nosuid", "nodev", "noexec"},
				}},
			},
		}},
	}
}

// describe writes what a person in the container reads: that it is simulated,
// then a line for each GPU.
func describe(machine string, gpus []nvml.GPU) []byte {
	out := fmt.Appendf(nil, "SIMULATED GPUs (%s): there is no GPU hardware here, and CUDA programs will find none.\n", machine)
	for _, g := range gpus {
		out = fmt.Appendf(out, "GPU %d: %s, %s, UUID %s, PCI %s\n", g.Index, g.Name, memory(g.MemoryBytes), g.UUID, g.PCIAddress)
	}
	return out
}

func memory(sizeBytes uint64) string {
	if sizeBytes%(1<<30) == 0 {
		return fmt.Sprintf("%d GiB", sizeBytes>>30)
	}
	return fmt.Sprintf("%d MiB", sizeBytes>>20)
}

// simulatedDevice reads one owner's file, which a restart or another call may
// have changed. Nil when there is none.
func (in *Injector) simulatedDevice(owner string) (*cdi.Device, error) {
	// CDI allows device names that are no owners', such as "a..b".
	if err := checkOwner(owner); err != nil {
		return nil, err
	}
	spec, err := cdi.ReadSpec(filepath.Join(in.simulatedDir, owner+specSuffix), 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: release %s and prepare it again", err, owner)
	}
	return spec.GetDevice(owner), nil
}

func (in *Injector) releaseSimulated(owner string) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, suffix := range []string{specSuffix, descriptionSuffix} {
		if err := removeFile(filepath.Join(in.simulatedDir, owner+suffix)); err != nil {
			return err
		}
	}
	return nil
}

// simulatedOwners counts an owner with one file of the two as well: it is left
// over from a crash, and Release removes it.
func (in *Injector) simulatedOwners() ([]string, error) {
	entries, err := os.ReadDir(in.simulatedDir)
	if err != nil {
		return nil, err
	}
	owners := map[string]bool{}
	for _, e := range entries {
		for _, suffix := range []string{specSuffix, descriptionSuffix} {
			if owner, ok := strings.CutSuffix(e.Name(), suffix); ok && checkOwner(owner) == nil {
				owners[owner] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(owners)), nil
}
