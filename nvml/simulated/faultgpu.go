package simulated

import (
	"fmt"
	"slices"
	"sync"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/uuid"
)

// faultyLinks is how many NVLinks a simulated GPU has, as H100 to B200 do.
const faultyLinks = 18

// FaultyGPU breaks one GPU of a Faulty machine. Faults add up until Repair.
type FaultyGPU struct {
	on     *Faulty
	slot   int
	well   *gpu
	handle *faultyDevice

	// What follows is guarded by on.mu.
	uuid         string
	replacements int
	code         gonvml.Return // what its calls answer; SUCCESS: it is well
	stuck        chan struct{} // closed when it answers again; nil: it does
	ecc          uint64
	rows         remapped
	sram         bool
	throttle     uint64
	links        [faultyLinks]link
	recovery     gonvml.DeviceGpuRecoveryAction
}

type remapped struct {
	uncorrectable   int
	pending, failed bool
}

type link struct {
	down                   bool
	replays, retrains, crc uint64
}

func newFaultyGPU(f *Faulty, well *gpu, slot int) *FaultyGPU {
	g := &FaultyGPU{on: f, slot: slot, well: well, uuid: well.UUID}
	g.handle = newFaultyDevice(g)
	return g
}

// Well is the GPU as it is without faults: for SetInUse and TelemetryOf.
func (g *FaultyGPU) Well() gonvml.Device { return g.well }

// UUID is what the GPU in this slot says now, or would if it answered.
func (g *FaultyGPU) UUID() string {
	g.on.mu.Lock()
	defer g.on.mu.Unlock()
	return g.uuid
}

// Repair takes all faults back: the GPU is there, answers, and has counted nothing.
func (g *FaultyGPU) Repair() {
	g.Return()
	g.change(func() {
		g.code, g.ecc, g.rows, g.sram, g.throttle = gonvml.SUCCESS, 0, remapped{}, false, 0
		g.links, g.recovery = [faultyLinks]link{}, gonvml.GPU_RECOVERY_ACTION_NONE
		for _, set := range g.on.sets {
			set.drop(g.well) // the driver started it anew
		}
	})
}

// Lose makes it fall off the bus: every call answers ERROR_GPU_IS_LOST, on handles
// that the caller has as well.
func (g *FaultyGPU) Lose() {
	g.change(func() {
		g.code = gonvml.ERROR_GPU_IS_LOST
		for _, set := range g.on.sets {
			set.lose(g.well)
		}
	})
}

// Refuse makes every call answer code, such as ERROR_NO_PERMISSION or ERROR_UNKNOWN.
func (g *FaultyGPU) Refuse(code gonvml.Return) { g.change(func() { g.code = code }) }

// Hang makes every call on it wait until release is called; Repair does not.
func (g *FaultyGPU) Hang() (release func()) {
	stuck := make(chan struct{})
	g.change(func() { g.stuck = stuck })
	return sync.OnceFunc(func() {
		g.change(func() {
			if g.stuck == stuck {
				g.stuck = nil
			}
		})
		close(stuck)
	})
}

// Vanish takes it out of the machine: the driver counts one less, and those after
// it move down by one.
func (g *FaultyGPU) Vanish() {
	g.change(func() {
		g.on.order = slices.DeleteFunc(g.on.order, func(slot int) bool { return slot == g.slot })
		for _, set := range g.on.sets {
			set.drop(g.well)
		}
	})
}

// Return brings it back after Vanish, at the end of the indexes.
func (g *FaultyGPU) Return() {
	g.change(func() {
		if !slices.Contains(g.on.order, g.slot) {
			g.on.order = append(g.on.order, g.slot)
		}
	})
}

// Replace puts another GPU of the type into the slot: new UUID, old address, no faults.
func (g *FaultyGPU) Replace() {
	g.change(func() {
		g.replacements++
		space := uuid.NewSHA1(uuid.NameSpaceDNS, []byte("simulated-replacement.ecolink.dev"))
		g.uuid = "GPU-" + uuid.NewSHA1(space, fmt.Appendf(nil, "%s/%d", g.well.UUID, g.replacements)).String()
	})
	g.Repair()
}

// SendXID reports an Xid. That it is of a kind that comes with another fault is
// for the caller to add.
func (g *FaultyGPU) SendXID(code uint64) { g.send(gonvml.EventTypeXidCriticalError, code) }

// ChangeMIG reports that the GPU's MIG configuration changed.
func (g *FaultyGPU) ChangeMIG() { g.send(gonvml.EventMigConfigChange, 0) }

// CountCorrectedECC reports a memory error that ECC mended.
func (g *FaultyGPU) CountCorrectedECC() { g.send(gonvml.EventTypeSingleBitEccError, 0) }

// CountUncorrectedECC counts and reports a memory error that ECC could not mend.
func (g *FaultyGPU) CountUncorrectedECC() {
	g.change(func() { g.ecc++ })
	g.send(gonvml.EventTypeDoubleBitEccError, 0)
}

// ExceedSRAM makes the driver judge the caches worn out.
func (g *FaultyGPU) ExceedSRAM() { g.change(func() { g.sram = true }) }

// RemapRow marks a memory row to be replaced at the next reset.
func (g *FaultyGPU) RemapRow() {
	g.change(func() { g.rows.uncorrectable++; g.rows.pending = true })
}

// FailRemap makes the replacing of a memory row fail.
func (g *FaultyGPU) FailRemap() { g.change(func() { g.rows.failed = true }) }

// Throttle sets why the clocks are low, as bits of nvmlClocksEventReasons; 0 ends it.
func (g *FaultyGPU) Throttle(reasons uint64) { g.change(func() { g.throttle = reasons }) }

// CountLinkErrors adds to the error counters of an NVLink, 0 to 17.
func (g *FaultyGPU) CountLinkErrors(n int, replays, retrains, crc uint64) {
	g.change(func() {
		g.links[n].replays += replays
		g.links[n].retrains += retrains
		g.links[n].crc += crc
	})
}

// CutLink takes an NVLink down, 0 to 17.
func (g *FaultyGPU) CutLink(n int) { g.change(func() { g.links[n].down = true }) }

// AskRecovery makes the driver say what has to be done with the GPU.
func (g *FaultyGPU) AskRecovery(action gonvml.DeviceGpuRecoveryAction) {
	g.change(func() { g.recovery = action })
}

func (g *FaultyGPU) change(what func()) {
	g.on.mu.Lock()
	defer g.on.mu.Unlock()
	what()
}

func (g *FaultyGPU) send(kind, data uint64) {
	g.change(func() {
		for _, set := range g.on.sets {
			set.send(g.well, kind, data)
		}
	})
}

// handleCode is what a look-up of its handle answers; on.mu is held. A GPU that
// hangs or refuses still has one.
func (g *FaultyGPU) handleCode() gonvml.Return {
	if g.code == gonvml.ERROR_GPU_IS_LOST {
		return g.code
	}
	return gonvml.SUCCESS
}

// enter waits while the GPU hangs, and then says how it is.
func (g *FaultyGPU) enter(symbol string) gonvml.Return {
	g.on.mu.Lock()
	stuck, missing := g.stuck, g.on.missing[symbol]
	g.on.mu.Unlock()
	if missing {
		panic("undefined symbol: " + symbol)
	}
	if stuck != nil {
		<-stuck
	}
	g.on.mu.Lock()
	defer g.on.mu.Unlock()
	if g.code == gonvml.SUCCESS && !slices.Contains(g.on.order, g.slot) {
		return gonvml.ERROR_GPU_IS_LOST // a handle of a GPU that was taken out
	}
	return g.code
}
