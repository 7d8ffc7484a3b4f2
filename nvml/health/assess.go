package health

import (
	"fmt"
	"slices"
	"strings"
)

// Assessment is what one reading says of one GPU.
type Assessment struct {
	UUID string `json:"uuid"`
	// Blind says that the GPU could not be looked into, so that what is not among
	// the findings need not be over.
	Blind    bool      `json:"blind"`
	Findings []Finding `json:"findings"`
}

// Assess compares what is with what was known before (Remember's result, or after
// a restart the recorded UUIDs and addresses) and says what is wrong with each
// GPU of either, those of before first. While the driver does not list its GPUs,
// each is blind without a finding: that the driver fails says nothing of a GPU.
// It finds the same for the same arguments.
func Assess(before, now Snapshot) []Assessment {
	out := []Assessment{}
	if !now.Listed {
		for _, b := range before.GPUs {
			out = append(out, Assessment{UUID: b.UUID, Blind: true})
		}
		return out
	}
	nameless := attribute(before, now)
	for _, b := range before.GPUs {
		n, there := now.gpu(b.UUID)
		if !there {
			n, there = nameless[b.UUID]
		}
		if !there {
			out = append(out, Assessment{UUID: b.UUID, Blind: true, Findings: []Finding{absent(b, before, now)}})
			continue
		}
		out = append(out, judge(b, n))
	}
	for _, n := range now.GPUs {
		if _, known := before.gpu(n.UUID); !known && n.UUID != "" {
			out = append(out, judge(Facts{UUID: n.UUID}, n))
		}
	}
	return out
}

// attribute finds out which of the known GPUs those are that did not tell their
// UUID. By index, while as many GPUs are listed as before; or because one is left
// on each side. Those that cannot be told apart are all called unreadable.
func attribute(before, now Snapshot) map[string]Facts {
	var nameless []Facts
	for _, n := range now.GPUs {
		if n.UUID == "" {
			nameless = append(nameless, n)
		}
	}
	var unseen []Facts
	for _, b := range before.GPUs {
		if _, seen := now.gpu(b.UUID); !seen {
			unseen = append(unseen, b)
		}
	}
	out := map[string]Facts{}
	if len(nameless) == 0 {
		return out
	}
	for _, b := range unseen {
		at := slices.IndexFunc(nameless, func(n Facts) bool { return n.Index == b.Index })
		switch {
		case len(nameless) == 1 && len(unseen) == 1:
			out[b.UUID] = nameless[0]
		case at >= 0 && len(now.GPUs) == len(before.GPUs):
			out[b.UUID] = nameless[at]
		default:
			out[b.UUID] = Facts{Index: b.Index, Reach: Unreadable, Detail: fmt.Sprintf(
				"%d of %d GPUs do not tell their UUID, and this is one of those or gone", len(nameless), len(now.GPUs))}
		}
	}
	return out
}

// absent explains a known GPU that the driver does not list.
func absent(b Facts, before, now Snapshot) Finding {
	for _, n := range now.GPUs {
		if n.UUID == "" || n.PCIAddress == "" || n.PCIAddress != b.PCIAddress {
			continue
		}
		// A GPU that was somewhere else before has moved, which replaces nothing.
		if old, known := before.gpu(n.UUID); known && old.PCIAddress != n.PCIAddress {
			continue
		}
		return newFinding(b.UUID, KindReplaced, "replaced",
			fmt.Sprintf("This GPU was replaced: at %s there is %s now.", b.PCIAddress, n.UUID),
			"If you replaced it, remove this GPU from EcoLink; test the new one before users get it.")
	}
	where := "an address that is not known"
	if b.PCIAddress != "" {
		where = b.PCIAddress
	}
	return newFinding(b.UUID, KindMissing, "missing",
		fmt.Sprintf("This GPU is gone: the driver no longer lists it. It was at %s.", where),
		"Look at dmesg and lspci; reboot, or reseat it. When it is back, test it and uncordon it; if you took it out, remove it from EcoLink.")
}

// judge looks at a GPU that is there.
func judge(before, now Facts) Assessment {
	a := Assessment{UUID: before.UUID, Blind: now.Reach != Answers}
	switch now.Reach {
	case Hangs:
		a.add(KindHangs, "hangs", "The GPU does not answer the driver's questions: "+now.Detail+".",
			"Look at dmesg for Xid errors and at what runs on it; if it does not answer again, reboot.")
	case Lost:
		a.add(KindLost, "lost", "The machine has lost this GPU: "+now.Detail+".", doReboot)
	case Unreadable:
		a.add(KindUnreadable, "unreadable", "The driver does not let EcoLink read this GPU: "+now.Detail+".",
			"Look at dmesg and the output of nvidia-smi; EcoLink must run as root.")
	default:
		judgeMemory(&a, now)
		judgeClocks(&a, now)
		judgeLinks(&a, before, now)
		judgeRecovery(&a, now)
	}
	return a
}

func (a *Assessment) add(kind Kind, key, explanation, do string) *Finding {
	a.Findings = append(a.Findings, newFinding(a.UUID, kind, key, explanation, do))
	return &a.Findings[len(a.Findings)-1]
}

func judgeMemory(a *Assessment, now Facts) {
	if n := now.UncorrectableECC; n != nil && *n > 0 {
		a.add(KindECC, "ecc", fmt.Sprintf(
			"The GPU's memory has had %d errors that ECC could not mend since the driver was loaded or the GPU reset.", *n), doResetMemory).Count = *n
	}
	if over := now.SRAMThresholdExceeded; over != nil && *over {
		a.add(KindSRAM, "sram", "The GPU's caches have had more errors than NVIDIA allows a GPU in its life.", "Ask NVIDIA for another GPU.")
	}
	if rows := now.RemappedRows; rows != nil {
		if rows.Failed {
			a.add(KindRemapFailed, "remap-failed", "A worn row of the GPU's memory could not be replaced: no spare is left there.", "Ask NVIDIA for another GPU.")
		}
		if rows.Pending {
			a.add(KindRemapPending, "remap-pending", "A worn row of the GPU's memory is replaced at the next reset.",
				"Reset the GPU (nvidia-smi --gpu-reset) when nothing runs on it.")
		}
	}
	if pages := now.RetiredPages; pages != nil && pages.Pending {
		a.add(KindPagePending, "page-pending", "A worn page of the GPU's memory is set aside when the driver is next loaded.",
			"Reset the GPU or reboot when nothing runs on it.")
	}
}

func judgeClocks(a *Assessment, now Facts) {
	s := now.Slowdown
	if s == nil {
		return
	}
	const cool = "Check fans, air flow and the temperature of the room; the GPU comes back by itself when it has been cool for a while."
	if s.Thermal {
		a.add(KindThermal, "thermal", "The GPU is too hot and has halved its clocks or more to protect itself.", cool)
	}
	if s.PowerBrake {
		a.add(KindPowerBrake, "power-brake", "The machine's power supply has braked the GPU, which halves its clocks or more.",
			"Check the power supplies and their limits; the GPU comes back by itself when the brake has been off for a while.")
	}
	if s.Hardware && !s.Thermal && !s.PowerBrake {
		a.add(KindHardwareSlow, "hardware-slowdown", "The GPU has halved its clocks or more to protect itself, from heat or for lack of power.",
			"Check cooling and power supplies; the GPU comes back by itself when it has run freely for a while.")
	}
	if s.SoftwareThermal && !s.Thermal {
		a.add(KindSoftwareThermal, "thermal-limit", "The GPU is at its temperature limit, and the driver keeps its clocks down.", cool)
	}
}

// judgeLinks compares counters, since single errors are normal in the life of a
// link; and a link that was never up may be one that nothing is plugged into.
func judgeLinks(a *Assessment, before, now Facts) {
	for _, l := range now.Links {
		at := slices.IndexFunc(before.Links, func(b Link) bool { return b.Link == l.Link })
		if at < 0 {
			continue
		}
		b := before.Links[at]
		if b.Up && !l.Up {
			a.add(KindLinkDown, fmt.Sprintf("nvlink-%d-down", l.Link),
				fmt.Sprintf("NVLink %d of the GPU is down and was up before.", l.Link), doResetLinks)
		}
		var grown []string
		for _, c := range []struct {
			what     string
			was, now *uint64
		}{
			{"packets sent again", b.Replays, l.Replays},
			{"times set up anew", b.Retrains, l.Retrains},
			{"damaged packets", b.CRC, l.CRC},
		} {
			if n := growth(c.was, c.now); n > 0 {
				grown = append(grown, fmt.Sprintf("%d %s", n, c.what))
			}
		}
		if len(grown) > 0 {
			a.add(KindLinkErrors, fmt.Sprintf("nvlink-%d-errors", l.Link),
				fmt.Sprintf("NVLink %d of the GPU has new errors: %s.", l.Link, strings.Join(grown, ", ")),
				"Programs go on; if they grow from hour to hour, plan a check of the link's hardware (nvidia-smi nvlink -e).")
		}
	}
}

// growth is 0 while one side is unknown. A counter that fell has begun anew.
func growth(was, now *uint64) uint64 {
	switch {
	case was == nil || now == nil:
		return 0
	case *now < *was:
		return *now
	}
	return *now - *was
}

func judgeRecovery(a *Assessment, now Facts) {
	if now.Recovery == nil || *now.Recovery == NoRecovery {
		return
	}
	action := *now.Recovery
	what, ok := map[RecoveryAction]string{
		ResetGPU:      "be reset",
		RebootNode:    "be brought back by a reboot of the machine",
		DrainPeers:    "be drained of programs that use other GPUs",
		DrainAndReset: "be drained and then reset",
	}[action]
	if !ok {
		what = "be recovered (nvidia-smi -q shows how, as GPU Recovery Action)"
	}
	a.add(KindRecovery, "recovery-"+string(action), "The driver says that this GPU has to "+what+".",
		"Stop what runs on the GPU, do that, test it, then uncordon it.")
}
