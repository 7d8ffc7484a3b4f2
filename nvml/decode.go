package nvml

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// pciAddress turns NVML's bus id, 00000000:1B:00.0, into Linux's form,
// 0000:1b:00.0. Empty when it is not of that form.
func pciAddress(info gonvml.PciInfo) string {
	domain, rest, ok := strings.Cut(cString(info.BusId[:]), ":")
	if !ok {
		return ""
	}
	number, err := strconv.ParseUint(domain, 16, 32)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%04x:%s", number, strings.ToLower(rest))
}

func cString(chars []int8) string {
	var b strings.Builder
	for _, c := range chars {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

// onlyNode is the number of the one bit that is set, or -1.
func onlyNode(words []uint) int {
	node := -1
	for i, w := range words {
		switch {
		case w == 0:
		case node >= 0 || bits.OnesCount(w) > 1:
			return -1
		default:
			node = i*bits.UintSize + bits.TrailingZeros(w)
		}
	}
	return node
}
