package nvml

import "strings"

// typeOf derives GPU.Type from a product name: lower case, words joined by "-",
// without what tells apart builds of the same GPU (brand, socket, memory). So
// "NVIDIA A100-SXM4-40GB" is a100 and "NVIDIA RTX 6000 Ada Generation" is
// rtx-6000-ada. A name of such words alone is kept whole; only a name without
// any letter or digit gives an empty type.
func typeOf(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	var kept []string
	for _, w := range words {
		if !isBuildWord(w) {
			kept = append(kept, w)
		}
	}
	if len(kept) == 0 {
		kept = words
	}
	return strings.Join(kept, "-")
}

// isBuildWord reports whether a word of a product name says nothing about which
// GPU it is. "Quadro" and "Ada" do say something: a Quadro RTX 6000, an RTX
// A6000 and an RTX 6000 Ada are three GPUs.
func isBuildWord(w string) bool {
	switch w {
	case "nvidia", "tesla", "geforce", "gpu", "generation", "server", "workstation", "edition", "with", "design", "pcie", "ac", "lc":
		return true
	}
	for _, prefix := range []string{"sxm", "nvl", "hbm"} { // SXM5, NVL72, HBM3e
		if strings.HasPrefix(w, prefix) {
			return true
		}
	}
	memory, ok := strings.CutSuffix(strings.TrimSuffix(w, "b"), "g") // 80GB, 144G
	return ok && memory != "" && strings.Trim(memory, "0123456789") == ""
}
