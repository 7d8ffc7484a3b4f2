package nvml

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// inventoryOf reads a mode's inventory once.
func inventoryOf(t *testing.T, mode string) Inventory {
	t.Helper()
	l, err := Open(mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	inv, err := l.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func TestSimulatedMachineLooksLikeADGXOfItsType(t *testing.T) {
	const gib = 1 << 30
	for gpuType, want := range map[string]struct {
		name   string
		memory uint64
		driver string
		cuda   string
	}{
		"a100": {"NVIDIA A100-SXM4-40GB", 40 * gib, "550.54.15", "12.4"},
		"h100": {"NVIDIA H100 80GB HBM3", 80 * gib, "550.54.15", "12.4"},
		"h200": {"NVIDIA H200 141GB HBM3e", 141 * gib, "550.54.15", "12.4"},
		"b200": {"NVIDIA B200 180GB HBM3e", 180 * gib, "560.28.03", "12.6"},
	} {
		for count := 1; count <= 8; count++ {
			machine := fmt.Sprintf("%sx%d", gpuType, count)
			t.Run(machine, func(t *testing.T) {
				inv := inventoryOf(t, "simulated:"+machine)
				if !inv.Simulated || inv.SimulatedAs != machine {
					t.Errorf("simulated %v as %q", inv.Simulated, inv.SimulatedAs)
				}
				if inv.Note != "" || len(inv.Problems) != 0 {
					t.Errorf("note %q, problems %v", inv.Note, inv.Problems)
				}
				if inv.DriverVersion != want.driver || inv.CUDAVersion != want.cuda {
					t.Errorf("driver %q, CUDA %q", inv.DriverVersion, inv.CUDAVersion)
				}
				if len(inv.GPUs) != count {
					t.Fatalf("%d GPUs", len(inv.GPUs))
				}
				for i, g := range inv.GPUs {
					if g.Index != i || g.Minor != i || g.Name != want.name || g.Type != gpuType || g.MemoryBytes != want.memory {
						t.Errorf("GPU %d is %+v", i, g)
					}
					if g.NUMANode < 0 || !g.MIGCapable || g.MIGEnabled {
						t.Errorf("GPU %d is %+v", i, g)
					}
					if len(g.NVLinkPeers) != count-1 || slices.Contains(g.NVLinkPeers, i) || !slices.IsSorted(g.NVLinkPeers) || g.NVLinkPeers == nil {
						t.Errorf("GPU %d has the NVLink peers %v", i, g.NVLinkPeers)
					}
				}
			})
		}
	}
}

func TestSimulatedGPUsHaveDistinctIdentitiesThatSurviveARestart(t *testing.T) {
	uuid := regexp.MustCompile(`^GPU-[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	address := regexp.MustCompile(`^0000:[0-9a-f]{2}:00\.0$`)
	seen := map[string]string{}
	for _, gpuType := range []string{"a100", "h100", "h200", "b200"} {
		mode := "simulated:" + gpuType + "x8"
		first, second := inventoryOf(t, mode), inventoryOf(t, mode)
		if !reflect.DeepEqual(first, second) {
			t.Errorf("%s differs after a restart:\n%+v\n%+v", mode, first, second)
		}
		half := inventoryOf(t, "simulated:"+gpuType+"x4")
		addresses := map[string]bool{}
		for i, g := range first.GPUs {
			if !uuid.MatchString(g.UUID) || !address.MatchString(g.PCIAddress) {
				t.Errorf("%s: GPU %d has UUID %q and address %q", mode, i, g.UUID, g.PCIAddress)
			}
			if other, taken := seen[g.UUID]; taken {
				t.Errorf("%s shares UUID %s with %s", mode, g.UUID, other)
			}
			seen[g.UUID] = mode
			if addresses[g.PCIAddress] {
				t.Errorf("%s: two GPUs at %s", mode, g.PCIAddress)
			}
			addresses[g.PCIAddress] = true
			if i < 4 && (half.GPUs[i].UUID != g.UUID || half.GPUs[i].PCIAddress != g.PCIAddress) {
				t.Errorf("%s: GPU %d is another one in x4", mode, i)
			}
		}
	}
}

// Durable records name these: a change of how they are derived would make every
// simulated box's records point nowhere.
func TestSimulatedIdentityIsTheOneThatOldRecordsName(t *testing.T) {
	g := inventoryOf(t, "simulated:h100x8").GPUs[7]
	if g.UUID != "GPU-a3ba8bb8-052d-54cc-95ad-d03847593105" || g.PCIAddress != "0000:df:00.0" {
		t.Errorf("the last H100 is %s at %s", g.UUID, g.PCIAddress)
	}
}

func TestInventoryReadsMIGModeAgainEachTime(t *testing.T) {
	l, err := Open("simulated:a100x2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	d, code := l.api.DeviceGetHandleByIndex(1)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	if code, _ := d.SetMigMode(gonvml.DEVICE_MIG_ENABLE); code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	inv, err := l.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	if inv.GPUs[0].MIGEnabled || !inv.GPUs[1].MIGEnabled {
		t.Errorf("MIG is on at %v and %v", inv.GPUs[0].MIGEnabled, inv.GPUs[1].MIGEnabled)
	}
}

func TestInventoryJSONIsSnakeCase(t *testing.T) {
	raw, err := json.Marshal(inventoryOf(t, "simulated:h100x1"))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(out)), []string{"cuda_version", "driver_version", "gpus", "simulated", "simulated_as"}; !slices.Equal(got, want) {
		t.Errorf("inventory has %v", got)
	}
	gpu := out["gpus"].([]any)[0].(map[string]any)
	want := []string{"index", "memory_bytes", "mig_capable", "mig_enabled", "minor", "name", "numa_node", "nvlink_peers", "pci_address", "type", "uuid"}
	if got := slices.Sorted(maps.Keys(gpu)); !slices.Equal(got, want) {
		t.Errorf("GPU has %v", got)
	}
}

func TestNoDriverIsAnEmptyInventoryThatSaysWhatToDo(t *testing.T) {
	l := newLibrary(gonvml.New(gonvml.WithLibraryPath("libnvidia-ml-that-is-not-there.so.1")), "")
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		inv, err := l.Inventory()
		if err != nil {
			t.Fatal(err)
		}
		if inv.Simulated || inv.GPUs == nil || len(inv.GPUs) != 0 {
			t.Errorf("inventory is %+v", inv)
		}
		for _, want := range []string{"no NVIDIA driver found", "libnvidia-ml.so.1", "--gpus simulated:h100x8"} {
			if !strings.Contains(inv.Note, want) {
				t.Errorf("note %q does not say %q", inv.Note, want)
			}
		}
	}
}

func TestAutoOpensOnAnyMachine(t *testing.T) {
	inv := inventoryOf(t, "auto")
	if inv.Simulated || (len(inv.GPUs) == 0) != (inv.Note != "") {
		t.Errorf("inventory is %+v", inv)
	}
}

func TestInventoryAfterCloseFails(t *testing.T) {
	l, err := Open("simulated:h100x1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Inventory(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if inv, err := l.Inventory(); err == nil {
		t.Errorf("inventory is %+v", inv)
	}
}

func TestLibraryIsSafeForConcurrentUse(t *testing.T) {
	l, err := Open("simulated:h100x8")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	done := make(chan error)
	for range 4 {
		go func() {
			inv, err := l.Inventory()
			if err == nil && (len(inv.GPUs) != 8 || len(inv.Problems) != 0) {
				err = fmt.Errorf("inventory is %+v", inv)
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
