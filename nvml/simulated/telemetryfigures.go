package simulated

import (
	"math"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// envelope is between what a GPU of a type idles and works: watts and clocks from
// its data sheet, the rest of the size that nvidia-smi shows on such machines.
type envelope struct {
	idleWatts, limitWatts float64
	idleMHz, topMHz       uint32 // of the multiprocessors
	memoryMHz             uint32
	linkBytesPerSecond    float64 // of all NVLinks in one direction
	pcieBytesPerSecond    float64 // in one direction
	perLinkCounters       bool    // NVLink 5
}

func envelopeOf(gpuType string) envelope {
	switch gpuType {
	case "a100":
		return envelope{idleWatts: 52, limitWatts: 400, idleMHz: 210, topMHz: 1410, memoryMHz: 1215, linkBytesPerSecond: 300e9, pcieBytesPerSecond: 31.5e9}
	case "h200":
		return envelope{idleWatts: 75, limitWatts: 700, idleMHz: 345, topMHz: 1980, memoryMHz: 3201, linkBytesPerSecond: 450e9, pcieBytesPerSecond: 63e9}
	case "b200":
		return envelope{idleWatts: 140, limitWatts: 1000, idleMHz: 120, topMHz: 1965, memoryMHz: 3996, linkBytesPerSecond: 900e9, pcieBytesPerSecond: 63e9, perLinkCounters: true}
	default: // h100
		return envelope{idleWatts: 70, limitWatts: 700, idleMHz: 345, topMHz: 1980, memoryMHz: 2619, linkBytesPerSecond: 450e9, pcieBytesPerSecond: 63e9}
	}
}

// linkCount is how many NVLinks a GPU with per-link counters has.
const linkCount = 18

// A part of what the links could carry goes over them under full load.
const (
	linkShare = 0.3
	pcieShare = 0.1
)

// figures are what a device says of itself at one moment.
type figures struct {
	gpuPercent, memoryPercent uint32
	usedBytes                 uint64
	celsius, memoryCelsius    uint32
	milliwatts                uint32
	smMHz, memoryMHz          uint32
	clockReasons              uint64
	pcieRxKB, pcieTxKB        uint32
	linkRxBytes, linkTxBytes  uint64
	processes                 []Process
}

// figures of a moment. The lock is held.
func (t *Telemetry) figures(now time.Time) figures {
	e := t.envelope
	f := figures{processes: t.processes(), memoryMHz: e.memoryMHz}
	for _, p := range f.processes {
		f.usedBytes = min(f.usedBytes+p.MemoryBytes, t.memoryBytes)
	}
	busy := t.busy(f.processes, now)
	f.gpuPercent = uint32(math.Round(100 * busy))
	f.memoryPercent = uint32(math.Round(60 * busy))
	f.celsius = uint32(math.Round(31 + 37*busy + 2*t.waver(now, 1)))
	f.memoryCelsius = f.celsius + 6
	watts := e.idleWatts + (e.limitWatts-e.idleWatts)*busy
	f.milliwatts = uint32(1000 * watts * (1 + 0.02*t.waver(now, 2)))
	f.smMHz, f.clockReasons = e.topMHz, 0
	switch {
	case busy == 0:
		f.smMHz, f.clockReasons = e.idleMHz, gonvml.ClocksEventReasonGpuIdle
	case busy > 0.95: // the power limit holds it back
		f.smMHz, f.clockReasons = e.topMHz*9/10, gonvml.ClocksEventReasonSwPowerCap
	}
	f.pcieRxKB = uint32(e.pcieBytesPerSecond * pcieShare * busy / 1000)
	f.pcieTxKB = f.pcieRxKB / 2
	t.links.advance(t.linkRate(now))
	f.linkRxBytes, f.linkTxBytes = t.links.total(), t.links.total()
	return f
}

// busy is the share of the multiprocessors that compute, 0 to 1.
func (t *Telemetry) busy(processes []Process, now time.Time) float64 {
	var percent uint32
	for _, p := range processes {
		percent += p.SMPercent
	}
	if percent == 0 {
		return 0
	}
	return min(1, max(0.01, float64(percent)/100+0.03*t.waver(now, 0)))
}

// linkRate is of one direction. The lock is held.
func (t *Telemetry) linkRate(now time.Time) (time.Time, float64) {
	return now, t.envelope.linkBytesPerSecond * linkShare * t.busy(t.processes(), now)
}

// waver is between -1 and 1, another each second; kind tells apart what wavers.
func (t *Telemetry) waver(now time.Time, kind uint64) float64 {
	x := t.load.Seed ^ t.place<<48 ^ kind<<40 ^ uint64(now.Unix())
	// The finaliser of SplitMix64: neighbouring seconds have unrelated values.
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return 2*float64(x>>11)/(1<<53) - 1
}

// counters add up what goes over the links, which a driver tells as totals.
type counters struct {
	at    time.Time // zero: nothing has been counted
	bytes float64
}

func (c *counters) advance(now time.Time, bytesPerSecond float64) {
	if !c.at.IsZero() && now.After(c.at) {
		c.bytes += now.Sub(c.at).Seconds() * bytesPerSecond
	}
	c.at = now
}

func (c *counters) total() uint64 { return uint64(c.bytes) }
