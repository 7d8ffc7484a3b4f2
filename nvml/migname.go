package nvml

import (
	"fmt"
	"math"
	"strings"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// migNamePrefix is what drivers may write before the name of a profile.
const migNamePrefix = "MIG "

// nameMIGProfile is the profile's name. index is GPU_INSTANCE_PROFILE_…, and
// named what the driver calls it, empty for a driver that does not tell; then the
// name is made as NVIDIA makes it: compute slices, memory as a share of the GPU's
// memory in whole GB, and what sets it apart from others of the same size.
func nameMIGProfile(named string, index int, info gonvml.GpuInstanceProfileInfo, totalBytes uint64) string {
	if name := strings.TrimSpace(strings.TrimPrefix(named, migNamePrefix)); name != "" {
		return name
	}
	return fmt.Sprintf("%dg.%dgb%s", info.SliceCount, migGigabytes(info.MemorySizeMB<<20, totalBytes), migAttribute(index))
}

// migGigabytes is a slice's memory as its name gives it. A slice has a little
// less, or more, than its eighths of the GPU's memory; the name says the eighths.
func migGigabytes(memoryBytes, totalBytes uint64) int {
	const eighths = 8
	share := math.Round(eighths*float64(memoryBytes)/float64(totalBytes)) / eighths
	total := math.Ceil(float64(totalBytes) / (1 << 30))
	return int(math.Round(share * total))
}

// migAttribute tells apart profiles of the same size. REV2 is one of another
// memory size, and needs nothing.
func migAttribute(index int) string {
	switch index {
	case gonvml.GPU_INSTANCE_PROFILE_1_SLICE_REV1, gonvml.GPU_INSTANCE_PROFILE_2_SLICE_REV1:
		return "+me" // media extensions: decoders, JPEG and optical flow
	case gonvml.GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME, gonvml.GPU_INSTANCE_PROFILE_2_SLICE_ALL_ME:
		return "+me.all"
	case gonvml.GPU_INSTANCE_PROFILE_1_SLICE_NO_ME, gonvml.GPU_INSTANCE_PROFILE_2_SLICE_NO_ME:
		return "-me"
	case gonvml.GPU_INSTANCE_PROFILE_1_SLICE_GFX, gonvml.GPU_INSTANCE_PROFILE_2_SLICE_GFX,
		gonvml.GPU_INSTANCE_PROFILE_3_SLICE_GFX, gonvml.GPU_INSTANCE_PROFILE_4_SLICE_GFX:
		return "+gfx"
	}
	return ""
}
