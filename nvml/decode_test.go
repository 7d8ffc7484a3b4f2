package nvml

import (
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

func TestPCIAddressIsInLinuxForm(t *testing.T) {
	for id, want := range map[string]string{
		"00000000:1B:00.0": "0000:1b:00.0",
		"0000000A:C3:00.1": "000a:c3:00.1",
		"00010000:01:00.0": "10000:01:00.0", // a domain of Intel's VMD
		"":                 "",
		"nonsense":         "",
		"zz:1b:00.0":       "",
	} {
		var info gonvml.PciInfo
		for i := range len(id) {
			info.BusId[i] = int8(id[i])
		}
		if got := pciAddress(info); got != want {
			t.Errorf("pciAddress(%q) = %q, want %q", id, got, want)
		}
	}
}

func TestNUMANodeIsKnownOnlyWhenOneIsNearest(t *testing.T) {
	for _, row := range []struct {
		words []uint
		want  int
	}{
		{nil, -1}, {[]uint{0, 0}, -1}, {[]uint{1}, 0}, {[]uint{1 << 7, 0}, 7}, {[]uint{0, 2}, 65}, {[]uint{3}, -1}, {[]uint{1, 1}, -1},
	} {
		if got := onlyNode(row.words); got != row.want {
			t.Errorf("onlyNode(%b) = %d, want %d", row.words, got, row.want)
		}
	}
}
