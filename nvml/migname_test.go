package nvml

import (
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Sizes are in MiB and as odd as those of real GPUs, of which a slice never has
// quite its share.
func TestProfileIsNamedAsNVIDIANamesIt(t *testing.T) {
	for _, row := range []struct {
		gpu      string
		totalMiB uint64
		index    int
		slices   uint32
		memory   uint64
		want     string
	}{
		{"A100 40GB", 40536, gonvml.GPU_INSTANCE_PROFILE_1_SLICE, 1, 4864, "1g.5gb"},
		{"A100 40GB", 40536, gonvml.GPU_INSTANCE_PROFILE_1_SLICE_REV1, 1, 4864, "1g.5gb+me"},
		{"A100 40GB", 40536, gonvml.GPU_INSTANCE_PROFILE_1_SLICE_REV2, 1, 9856, "1g.10gb"},
		{"A100 40GB", 40536, gonvml.GPU_INSTANCE_PROFILE_3_SLICE, 3, 19968, "3g.20gb"},
		{"A100 40GB", 40536, gonvml.GPU_INSTANCE_PROFILE_7_SLICE, 7, 40192, "7g.40gb"},
		{"A100 80GB", 81920, gonvml.GPU_INSTANCE_PROFILE_1_SLICE, 1, 9728, "1g.10gb"},
		{"A100 80GB", 81920, gonvml.GPU_INSTANCE_PROFILE_2_SLICE, 2, 19968, "2g.20gb"},
		{"A30 24GB", 24576, gonvml.GPU_INSTANCE_PROFILE_1_SLICE, 1, 5952, "1g.6gb"},
		{"A30 24GB", 24576, gonvml.GPU_INSTANCE_PROFILE_2_SLICE_REV1, 2, 12096, "2g.12gb+me"},
		{"A30 24GB", 24576, gonvml.GPU_INSTANCE_PROFILE_4_SLICE, 4, 24192, "4g.24gb"},
		{"H100 80GB", 81559, gonvml.GPU_INSTANCE_PROFILE_4_SLICE, 4, 40448, "4g.40gb"},
		{"H200 141GB", 143771, gonvml.GPU_INSTANCE_PROFILE_1_SLICE, 1, 16384, "1g.18gb"},
		{"H200 141GB", 143771, gonvml.GPU_INSTANCE_PROFILE_3_SLICE, 3, 71168, "3g.71gb"},
		{"a graphics profile", 98304, gonvml.GPU_INSTANCE_PROFILE_1_SLICE_GFX, 1, 24576, "1g.24gb+gfx"},
		{"without media engines", 98304, gonvml.GPU_INSTANCE_PROFILE_1_SLICE_NO_ME, 1, 24576, "1g.24gb-me"},
		{"with all media engines", 98304, gonvml.GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME, 1, 24576, "1g.24gb+me.all"},
	} {
		info := gonvml.GpuInstanceProfileInfo{SliceCount: row.slices, MemorySizeMB: row.memory}
		if got := nameMIGProfile("", row.index, info, row.totalMiB<<20); got != row.want {
			t.Errorf("%s: %s, want %s", row.gpu, got, row.want)
		}
	}
}

func TestNameThatTheDriverGivesIsTaken(t *testing.T) {
	for given, want := range map[string]string{"MIG 1g.10gb+me": "1g.10gb+me", "1g.10gb": "1g.10gb", "MIG ": "2g.20gb", "": "2g.20gb"} {
		info := gonvml.GpuInstanceProfileInfo{SliceCount: 2, MemorySizeMB: 20480}
		if got := nameMIGProfile(given, gonvml.GPU_INSTANCE_PROFILE_2_SLICE, info, 80<<30); got != want {
			t.Errorf("%q is named %q, want %q", given, got, want)
		}
	}
}
