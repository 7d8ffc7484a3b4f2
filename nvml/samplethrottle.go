package nvml

import (
	"encoding/json"
	"fmt"
	"math/bits"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Throttle says what holds a GPU's clocks down, as the bits of
// nvmlDeviceGetCurrentClocksEventReasons. 0: nothing does.
type Throttle uint64

// Idle reports that the clocks are low because nothing runs.
func (t Throttle) Idle() bool { return t&gonvml.ClocksEventReasonGpuIdle != 0 }

// ByPower reports that the power limit or the board's supply holds it back.
func (t Throttle) ByPower() bool {
	return t&(gonvml.ClocksEventReasonSwPowerCap|gonvml.ClocksThrottleReasonHwPowerBrakeSlowdown) != 0
}

// ByHeat reports that it, or its memory, is too hot.
func (t Throttle) ByHeat() bool {
	return t&(gonvml.ClocksEventReasonSwThermalSlowdown|gonvml.ClocksThrottleReasonHwThermalSlowdown) != 0
}

// ByHardware reports that the hardware itself cut the clocks to a half or less,
// which heat or the supply makes it do.
func (t Throttle) ByHardware() bool {
	return t&(gonvml.ClocksThrottleReasonHwSlowdown|gonvml.ClocksThrottleReasonHwThermalSlowdown|gonvml.ClocksThrottleReasonHwPowerBrakeSlowdown) != 0
}

// Reasons are the bits by name, never nil. A bit that is newer than this program
// is named by its number.
func (t Throttle) Reasons() []string {
	out := []string{}
	for rest := uint64(t); rest != 0; rest &= rest - 1 {
		out = append(out, throttleReason(bits.TrailingZeros64(rest)))
	}
	return out
}

// MarshalJSON writes Reasons.
func (t Throttle) MarshalJSON() ([]byte, error) { return json.Marshal(t.Reasons()) }

// throttleReason is NVML's own name of a bit, in our spelling.
func throttleReason(bit int) string {
	switch 1 << bit {
	case gonvml.ClocksEventReasonGpuIdle:
		return "gpu_idle"
	case gonvml.ClocksEventReasonApplicationsClocksSetting:
		return "applications_clocks_setting"
	case gonvml.ClocksEventReasonSwPowerCap:
		return "sw_power_cap"
	case gonvml.ClocksThrottleReasonHwSlowdown:
		return "hw_slowdown"
	case gonvml.ClocksEventReasonSyncBoost:
		return "sync_boost"
	case gonvml.ClocksEventReasonSwThermalSlowdown:
		return "sw_thermal_slowdown"
	case gonvml.ClocksThrottleReasonHwThermalSlowdown:
		return "hw_thermal_slowdown"
	case gonvml.ClocksThrottleReasonHwPowerBrakeSlowdown:
		return "hw_power_brake_slowdown"
	case gonvml.ClocksEventReasonDisplayClockSetting:
		return "display_clock_setting"
	case gonvml.ClocksEventReasonBoardLimit:
		return "board_limit"
	case gonvml.ClocksEventReasonReliability:
		return "reliability"
	default:
		return fmt.Sprintf("bit_%d", bit)
	}
}
