package nvml

import (
	"regexp"
	"testing"
)

func TestTypeIsTheProductWithoutBrandSocketAndMemory(t *testing.T) {
	for name, want := range map[string]string{
		// data centre
		"NVIDIA A100-SXM4-40GB":      "a100",
		"NVIDIA A100-SXM4-80GB":      "a100",
		"NVIDIA A100-PCIE-40GB":      "a100",
		"NVIDIA A100 80GB PCIe":      "a100",
		"NVIDIA A100-SXM-64GB":       "a100",
		"NVIDIA A800-SXM4-80GB":      "a800",
		"NVIDIA H100 80GB HBM3":      "h100",
		"NVIDIA H100 PCIe":           "h100",
		"NVIDIA H100 NVL":            "h100",
		"NVIDIA H200":                "h200",
		"NVIDIA H200 141GB HBM3e":    "h200",
		"NVIDIA H200 NVL":            "h200",
		"NVIDIA H20":                 "h20",
		"NVIDIA H20-3e":              "h20-3e",
		"NVIDIA GH200 480GB":         "gh200",
		"NVIDIA GH200 144G HBM3e":    "gh200",
		"NVIDIA B200":                "b200",
		"NVIDIA B200 180GB HBM3e":    "b200",
		"NVIDIA B300 SXM6 AC":        "b300",
		"NVIDIA GB200":               "gb200",
		"NVIDIA GB10":                "gb10",
		"NVIDIA A10":                 "a10",
		"NVIDIA A10G":                "a10g",
		"NVIDIA A30":                 "a30",
		"NVIDIA L4":                  "l4",
		"NVIDIA L40":                 "l40",
		"NVIDIA L40S":                "l40s",
		"Tesla T4":                   "t4",
		"Tesla P100-PCIE-16GB":       "p100",
		"Tesla V100-SXM2-32GB":       "v100",
		"Tesla K80":                  "k80",
		"NVIDIA CMP 170HX":           "cmp-170hx",
		"NVIDIA Graphics Device":     "graphics-device",
		"NVIDIA PG506-232":           "pg506-232",
		"Orin (nvgpu)":               "orin-nvgpu",
		"NVIDIA TITAN RTX":           "titan-rtx",
		"NVIDIA TITAN V":             "titan-v",
		"NVIDIA GeForce RTX 4090":    "rtx-4090",
		"NVIDIA GeForce RTX 4090 D":  "rtx-4090-d",
		"NVIDIA GeForce GTX 1080 Ti": "gtx-1080-ti",
		// workstation: three GPUs that must not share a rate
		"Quadro RTX 6000":                                         "quadro-rtx-6000",
		"NVIDIA RTX A6000":                                        "rtx-a6000",
		"NVIDIA RTX 6000 Ada Generation":                          "rtx-6000-ada",
		"NVIDIA RTX PRO 6000 Blackwell Server Edition":            "rtx-pro-6000-blackwell",
		"NVIDIA RTX PRO 6000 Blackwell Workstation Edition":       "rtx-pro-6000-blackwell",
		"NVIDIA GeForce RTX 4080 Laptop GPU":                      "rtx-4080-laptop",
		"NVIDIA GeForce RTX 2080 with Max-Q Design":               "rtx-2080-max-q",
		"NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": "rtx-pro-6000-blackwell-max-q",
		// nothing left, or nothing there
		"NVIDIA 80GB": "nvidia-80gb",
		"":            "",
		"®":           "",
	} {
		if got := typeOf(name); got != want {
			t.Errorf("typeOf(%q) = %q, want %q", name, got, want)
		}
	}
}

func FuzzTypeIsAlwaysAKey(f *testing.F) {
	f.Add("NVIDIA H100 80GB HBM3")
	f.Add("--g b/ß")
	key := regexp.MustCompile(`^([a-z0-9]+(-[a-z0-9]+)*)?$`)
	f.Fuzz(func(t *testing.T, name string) {
		got := typeOf(name)
		if !key.MatchString(got) {
			t.Fatalf("typeOf(%q) = %q", name, got)
		}
		if again := typeOf(got); got != "" && again == "" {
			t.Fatalf("typeOf(%q) = %q, whose own type is empty", name, got)
		}
	})
}
