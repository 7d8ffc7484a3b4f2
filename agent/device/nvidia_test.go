package device

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi"
	oci "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	specs "tags.cncf.io/container-device-interface/specs-go"

	"ecolink/nvml"
)

const (
	gpuA = "GPU-aaaaaaaa-0000-4000-8000-000000000000"
	gpuB = "GPU-bbbbbbbb-0000-4000-8000-000000000000"
)

var realGPUs = []nvml.GPU{{Index: 0, UUID: gpuA}, {Index: 1, UUID: gpuB}}

// generated is what the generator writes on a machine with a driver, with device
// nodes that every machine has in place of the GPUs'.
func generated(uuids []string) (*specs.Spec, error) {
	node := func(path, host string) *specs.DeviceNode { return &specs.DeviceNode{Path: path, HostPath: host} }
	spec := &specs.Spec{
		Version: "0.7.0",
		Kind:    "nvidia.com/gpu",
		ContainerEdits: specs.ContainerEdits{
			Env:         []string{"NVIDIA_VISIBLE_DEVICES=void"},
			DeviceNodes: []*specs.DeviceNode{node("/dev/nvidiactl", "/dev/null"), node("/dev/nvidia-uvm", "/dev/zero")},
			Mounts:      []*specs.Mount{{HostPath: "/usr/lib/libcuda.so.1", ContainerPath: "/usr/lib/libcuda.so.1", Options: []string{"ro", "bind"}}},
			Hooks:       []*specs.Hook{{HookName: "createContainer", Path: "/usr/bin/nvidia-cdi-hook", Args: []string{"nvidia-cdi-hook", "update-ldcache"}}},
		},
	}
	for i, uuid := range uuids {
		host := []string{"/dev/random", "/dev/urandom"}[i]
		spec.Devices = append(spec.Devices, specs.Device{
			Name:           uuid,
			ContainerEdits: specs.ContainerEdits{DeviceNodes: []*specs.DeviceNode{node("/dev/nvidia"+string(rune('0'+i)), host)}},
		})
	}
	return spec, nil
}

func newRealBox(t *testing.T, gpus []nvml.GPU, generate generator) (*Injector, error) {
	t.Helper()
	return newInjector(nvml.Inventory{GPUs: gpus}, t.TempDir(), generate)
}

func devicePaths(spec *oci.Spec) (out []string) {
	for _, d := range spec.Linux.Devices {
		out = append(out, d.Path)
	}
	slices.Sort(out)
	return out
}

func TestContainerGetsTheNodesOfItsRealGPUAndOfNoOther(t *testing.T) {
	in, err := newRealBox(t, realGPUs, generated)
	if err != nil {
		t.Fatal(err)
	}
	names, err := in.Prepare("instance-1", []string{gpuB})
	if err != nil || !slices.Equal(names, []string{"nvidia.com/gpu=" + gpuB}) {
		t.Fatalf("%v, %v", names, err)
	}
	for range 2 { // the second must not inherit anything from the first
		spec := newSpec()
		if err := in.Inject(spec, names); err != nil {
			t.Fatal(err)
		}
		if got := devicePaths(spec); !slices.Equal(got, []string{"/dev/nvidia-uvm", "/dev/nvidia1", "/dev/nvidiactl"}) {
			t.Errorf("devices %v", got)
		}
		if got := visible(spec); !slices.Equal(got, []string{"void"}) {
			t.Errorf("NVIDIA_VISIBLE_DEVICES is %q; CDI gave the GPUs, and the older hook must not add any", got)
		}
		if len(spec.Mounts) != 2 || len(spec.Hooks.CreateContainer) != 1 || len(spec.Linux.Resources.Devices) != 3 {
			t.Errorf("spec is %+v", spec)
		}
		spec.Mounts[1].Options[0], spec.Hooks.CreateContainer[0].Args[0] = "rw", "changed by the caller"
	}
	if owners, err := in.Owners(); err != nil || len(owners) != 0 {
		t.Errorf("owners %v, %v", owners, err)
	}
	if err := in.Release("instance-1"); err != nil {
		t.Error(err)
	}
}

func TestSeveralRealGPUsShareTheCommonPart(t *testing.T) {
	in, err := newRealBox(t, realGPUs, generated)
	if err != nil {
		t.Fatal(err)
	}
	names, err := in.Prepare("instance-1", []string{gpuB, gpuA})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			spec := newSpec()
			if err := in.Inject(spec, names); err != nil {
				t.Error(err)
				return
			}
			if got := devicePaths(spec); len(got) != 4 || len(spec.Hooks.CreateContainer) != 1 {
				t.Errorf("devices %v, hooks %v", got, spec.Hooks)
			}
		})
	}
	wg.Wait()
}

func TestMachineWithoutWholeGPUsNeedsNoGenerator(t *testing.T) {
	never := func([]string) (*specs.Spec, error) { return nil, errors.New("asked") }
	for _, gpus := range [][]nvml.GPU{nil, {{UUID: gpuA, MIGCapable: true, MIGEnabled: true}}} {
		in, err := newRealBox(t, gpus, never)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Inject(newSpec(), []string{"nvidia.com/gpu=" + gpuA}); err == nil {
			t.Error("a GPU was injected")
		}
		if _, err := in.Prepare("instance-1", []string{gpuA}); err == nil || !strings.Contains(err.Error(), gpuA) {
			t.Errorf("a GPU was prepared: %v", err)
		}
	}
}

func TestDescriptionThatCUDACouldNotUseIsRefused(t *testing.T) {
	for what, breakIt := range map[string]func(*specs.Spec){
		"/dev/nvidiactl":   func(s *specs.Spec) { s.ContainerEdits.DeviceNodes = s.ContainerEdits.DeviceNodes[1:] },
		"/dev/nvidia-uvm":  func(s *specs.Spec) { s.ContainerEdits.DeviceNodes = s.ContainerEdits.DeviceNodes[:1] },
		gpuA:               func(s *specs.Spec) { s.Devices[0].Name = "0" },
		gpuB:               func(s *specs.Spec) { s.Devices[1].ContainerEdits.DeviceNodes = nil },
		"example.com/gpus": func(s *specs.Spec) { s.Kind = "example.com/gpus" },
	} {
		_, err := newRealBox(t, realGPUs, func(uuids []string) (*specs.Spec, error) {
			s, err := generated(uuids)
			breakIt(s)
			return s, err
		})
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("without %s: %v", what, err)
		}
	}
	if _, err := newRealBox(t, realGPUs, func([]string) (*specs.Spec, error) { return nil, errors.New("no driver") }); err == nil {
		t.Error("a generator that fails was accepted")
	}
}

// NVIDIA's generator itself, over go-nvml's mock and a directory that looks like
// a machine with a driver. It needs root, for the device nodes.
func TestNVIDIAsGeneratorDescribesEachGPUByItsUUID(t *testing.T) {
	const version = "550.54.15"
	root := t.TempDir()
	lib := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	for _, dir := range []string{lib, filepath.Join(root, "dev")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"libcuda.so." + version, "libnvidia-ml.so." + version} {
		if err := os.WriteFile(filepath.Join(lib, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"} {
		if err := unix.Mknod(filepath.Join(root, "dev", name), unix.S_IFCHR|0o666, int(unix.Mkdev(195, uint32(i)))); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("make device nodes: %v", err)
			}
			t.Skipf("cannot make device nodes here: %v", err)
		}
	}
	machine := dgxa100.New()
	machine.Devices = machine.Devices[:3]
	var gpus []nvml.GPU
	for i, d := range machine.Devices {
		mocked := d.(*server.Device)
		mocked.IsMigDeviceHandleFunc = func() (bool, gonvml.Return) { return false, gonvml.SUCCESS }
		gpus = append(gpus, nvml.GPU{Index: i, UUID: mocked.UUID})
	}
	generate := func(uuids []string) (*specs.Spec, error) {
		return describeNVIDIA(uuids, nvcdi.WithNvmlLib(machine), nvcdi.WithDriverRoot(root), nvcdi.WithNVIDIACDIHookPath("/usr/bin/nvidia-cdi-hook"))
	}
	in, err := newRealBox(t, gpus[:2], generate)
	if err != nil {
		t.Fatal(err)
	}
	names, err := in.Prepare("instance-1", []string{gpus[1].UUID})
	if err != nil {
		t.Fatal(err)
	}
	spec := newSpec()
	if err := in.Inject(spec, names); err != nil {
		t.Fatal(err)
	}
	if got := devicePaths(spec); !slices.Equal(got, []string{"/dev/nvidia-uvm", "/dev/nvidia1", "/dev/nvidiactl"}) {
		t.Errorf("devices %v", got)
	}
	if !slices.ContainsFunc(spec.Mounts, func(m oci.Mount) bool { return strings.HasSuffix(m.Destination, "libcuda.so."+version) }) {
		t.Errorf("mounts %+v", spec.Mounts)
	}
	if _, err := in.Prepare("instance-2", []string{gpus[2].UUID}); err == nil {
		t.Error("a GPU outside the inventory was prepared")
	}
}
