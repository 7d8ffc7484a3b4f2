package nvml

import (
	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/health"
)

// factReader asks one GPU for its facts. What the library, the model or the mode
// does not give is nil.
type factReader struct {
	library *Library
	device  gonvml.Device
	lost    bool // one of the calls found that the GPU is gone
}

// ok reports whether a call gave an answer.
func (r *factReader) ok(code gonvml.Return) bool {
	if code != gonvml.SUCCESS && reachOf(code) == health.Lost {
		r.lost = true
	}
	return code == gonvml.SUCCESS
}

func (r *factReader) uncorrectableECC() *uint64 {
	if !r.library.has("nvmlDeviceGetTotalEccErrors") {
		return nil
	}
	n, code := r.device.GetTotalEccErrors(gonvml.MEMORY_ERROR_TYPE_UNCORRECTED, gonvml.VOLATILE_ECC)
	if !r.ok(code) {
		return nil
	}
	return &n
}

func (r *factReader) sramThreshold() *bool {
	if !r.library.has("nvmlDeviceGetSramEccErrorStatus") {
		return nil
	}
	status, code := r.device.GetSramEccErrorStatus()
	if !r.ok(code) {
		return nil
	}
	exceeded := status.BThresholdExceeded != 0
	return &exceeded
}

func (r *factReader) remappedRows() *health.RemappedRows {
	if !r.library.has("nvmlDeviceGetRemappedRows") {
		return nil
	}
	correctable, uncorrectable, pending, failed, code := r.device.GetRemappedRows()
	if !r.ok(code) {
		return nil
	}
	return &health.RemappedRows{Correctable: correctable, Uncorrectable: uncorrectable, Pending: pending, Failed: failed}
}

func (r *factReader) retiredPages() *health.RetiredPages {
	if !r.library.has("nvmlDeviceGetRetiredPagesPendingStatus") {
		return nil
	}
	pending, code := r.device.GetRetiredPagesPendingStatus()
	if !r.ok(code) {
		return nil
	}
	return &health.RetiredPages{Pending: pending == gonvml.FEATURE_ENABLED}
}

// slowdown asks under the name that R535 brought, and under the older one.
func (r *factReader) slowdown() *health.Slowdown {
	for _, c := range []struct {
		symbol string
		call   func() (uint64, gonvml.Return)
	}{
		{"nvmlDeviceGetCurrentClocksEventReasons", r.device.GetCurrentClocksEventReasons},
		{"nvmlDeviceGetCurrentClocksThrottleReasons", r.device.GetCurrentClocksThrottleReasons},
	} {
		if !r.library.has(c.symbol) {
			continue
		}
		if reasons, code := c.call(); r.ok(code) {
			return &health.Slowdown{
				Thermal:         reasons&gonvml.ClocksThrottleReasonHwThermalSlowdown != 0,
				SoftwareThermal: reasons&gonvml.ClocksEventReasonSwThermalSlowdown != 0,
				PowerBrake:      reasons&gonvml.ClocksThrottleReasonHwPowerBrakeSlowdown != 0,
				Hardware:        reasons&gonvml.ClocksThrottleReasonHwSlowdown != 0,
			}
		}
	}
	return nil
}

// links are those that the GPU has, up or not.
func (r *factReader) links() []health.Link {
	if !r.library.has("nvmlDeviceGetNvLinkState") {
		return nil
	}
	var out []health.Link
	for n := range gonvml.NVLINK_MAX_LINKS {
		state, code := r.device.GetNvLinkState(n)
		if !r.ok(code) {
			continue // not plugged in, or beyond the last
		}
		out = append(out, health.Link{Link: n, Up: state == gonvml.FEATURE_ENABLED})
	}
	r.linkFields(out)
	r.linkCounters(out)
	return out
}

// linkFields counts as Hopper and later do, all links in one call. Each counter
// has the field of before Blackwell and that of Blackwell (nvml.h names the one at
// the other).
func (r *factReader) linkFields(links []health.Link) {
	if len(links) == 0 || !r.library.has("nvmlDeviceGetFieldValues") {
		return
	}
	ids := []uint32{
		gonvml.FI_DEV_NVLINK_ERROR_DL_REPLAY,
		gonvml.FI_DEV_NVLINK_ERROR_DL_RECOVERY, gonvml.FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS,
		gonvml.FI_DEV_NVLINK_ERROR_DL_CRC, gonvml.FI_DEV_NVLINK_COUNT_RCV_ERRORS,
	}
	values := make([]gonvml.FieldValue, 0, len(links)*len(ids))
	for _, l := range links {
		for _, id := range ids {
			values = append(values, gonvml.FieldValue{FieldId: id, ScopeId: uint32(l.Link)})
		}
	}
	if code := r.device.GetFieldValues(values); !r.ok(code) {
		return
	}
	for i := range links {
		v := values[i*len(ids):]
		links[i].Replays = r.field(v[0])
		links[i].Retrains = either(r.field(v[1]), r.field(v[2]))
		links[i].CRC = either(r.field(v[3]), r.field(v[4]))
	}
}

// linkCounters asks for what is still unknown as GPUs before Hopper count.
func (r *factReader) linkCounters(links []health.Link) {
	if !r.library.has("nvmlDeviceGetNvLinkErrorCounter") {
		return
	}
	for i := range links {
		l := &links[i]
		for _, c := range []struct {
			into    **uint64
			counter gonvml.NvLinkErrorCounter
		}{
			{&l.Replays, gonvml.NVLINK_ERROR_DL_REPLAY},
			{&l.Retrains, gonvml.NVLINK_ERROR_DL_RECOVERY},
			{&l.CRC, gonvml.NVLINK_ERROR_DL_CRC_FLIT},
		} {
			if *c.into != nil {
				continue
			}
			if n, code := r.device.GetNvLinkErrorCounter(l.Link, c.counter); r.ok(code) {
				*c.into = &n
			}
		}
	}
}

func (r *factReader) recovery() *health.RecoveryAction {
	if !r.library.has("nvmlDeviceGetFieldValues") {
		return nil
	}
	values := []gonvml.FieldValue{{FieldId: gonvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
	if code := r.device.GetFieldValues(values); !r.ok(code) {
		return nil
	}
	n := r.field(values[0])
	if n == nil {
		return nil
	}
	action := health.OtherRecovery
	switch gonvml.DeviceGpuRecoveryAction(*n) {
	case gonvml.GPU_RECOVERY_ACTION_NONE:
		action = health.NoRecovery
	case gonvml.GPU_RECOVERY_ACTION_GPU_RESET:
		action = health.ResetGPU
	case gonvml.GPU_RECOVERY_ACTION_NODE_REBOOT, gonvml.GPU_RECOVERY_ACTION_SYSTEM_REBOOT:
		action = health.RebootNode
	case gonvml.GPU_RECOVERY_ACTION_DRAIN_P2P:
		action = health.DrainPeers
	case gonvml.GPU_RECOVERY_ACTION_DRAIN_AND_RESET:
		action = health.DrainAndReset
	}
	return &action
}

// field is a value's number, if it has one.
func (r *factReader) field(v gonvml.FieldValue) *uint64 {
	number := reader{}
	n, ok := number.field(v).Get()
	r.lost = r.lost || number.lost
	if !ok {
		return nil
	}
	return &n
}

func either(a, b *uint64) *uint64 {
	if a != nil {
		return a
	}
	return b
}
