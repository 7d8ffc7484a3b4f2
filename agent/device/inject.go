package device

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	oci "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
	specs "tags.cncf.io/container-device-interface/specs-go"
)

// visibleDevices is the variable by which NVIDIA's older container hook, if the
// machine has it, chooses GPUs. It must never be what an image or a user says.
const visibleDevices = "NVIDIA_VISIBLE_DEVICES"

// noDevices tells that hook to leave a container alone.
const noDevices = visibleDevices + "=void"

// Inject applies the named devices to a container's spec; call it after the
// environment and mounts of image and user are in. Names are those that Prepare
// returned, by this Injector or one before a restart. Without names the
// container gets no GPU, and NVIDIA_VISIBLE_DEVICES=void so that nothing else
// gives it one. A name that is unknown is an error that names it, and leaves
// spec as it was; after any other error spec must be thrown away.
func (in *Injector) Inject(spec *oci.Spec, names []string) error {
	if spec == nil {
		return errors.New("inject GPUs: no container spec")
	}
	edits, err := in.edits(names)
	if err != nil {
		return fmt.Errorf("inject GPUs: %w", err)
	}
	// All of them: the CDI library replaces only the last, and programs read the first.
	if spec.Process != nil {
		spec.Process.Env = slices.DeleteFunc(spec.Process.Env, func(entry string) bool {
			name, _, _ := strings.Cut(entry, "=")
			return name == visibleDevices
		})
	}
	if err := edits.Apply(spec); err != nil {
		return fmt.Errorf("inject GPUs %s: %w", strings.Join(names, ", "), err)
	}
	return nil
}

// edits collects what the names bring: for each spec file its common part once,
// then its devices. Specs are shared between calls, and Apply fills in what a
// device node leaves out, so it is given copies.
func (in *Injector) edits(names []string) (*cdi.ContainerEdits, error) {
	sum := &cdi.ContainerEdits{ContainerEdits: &specs.ContainerEdits{}}
	if len(names) == 0 {
		sum.Env = []string{noDevices}
		return sum, nil
	}
	var seen []*cdi.Spec
	for _, name := range names {
		d, err := in.device(name)
		if err != nil {
			return nil, err
		}
		if s := d.GetSpec(); !slices.Contains(seen, s) {
			seen = append(seen, s)
			sum.Append(&cdi.ContainerEdits{ContainerEdits: &s.ContainerEdits})
		}
		sum.Append(&cdi.ContainerEdits{ContainerEdits: &d.ContainerEdits})
	}
	for i, node := range sum.DeviceNodes {
		own := *node
		sum.DeviceNodes[i] = &own
	}
	for i, mount := range sum.Mounts {
		own := *mount
		own.Options = slices.Clone(mount.Options)
		sum.Mounts[i] = &own
	}
	for i, hook := range sum.Hooks {
		own := *hook
		own.Args, own.Env = slices.Clone(hook.Args), slices.Clone(hook.Env)
		sum.Hooks[i] = &own
	}
	return sum, nil
}

// device finds a device by its qualified name, reading one file at most.
func (in *Injector) device(name string) (*cdi.Device, error) {
	vendor, class, short, err := parser.ParseQualifiedName(name)
	if err != nil {
		return nil, err
	}
	var d *cdi.Device
	switch vendor + "/" + class {
	case nvidiaKind:
		if in.nvidia != nil {
			d = in.nvidia.GetDevice(short)
		}
	case simulatedKind:
		d, err = in.simulatedDevice(short)
	}
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, fmt.Errorf("no CDI device %q: prepare its owner first", name)
	}
	return d, nil
}
