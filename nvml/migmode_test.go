package nvml

import (
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/simulated"
)

func TestSliceOnAGPUThatIsNotInMIGModeIsRefused(t *testing.T) {
	b := newMIGBox(t, simulated.Layout{Type: "h200", Count: 1})
	_, err := b.p.Create(b.gpus[0], "3g.71gb", 0)
	wantKind(t, err, MIGModeOff, "enable it for this GPU first")
	wantKind(t, b.p.Destroy(b.gpus[0], MIGSlice{Profile: "3g.71gb"}), MIGModeOff)
}

func TestModeThatIsSetAlreadyNeedsNothing(t *testing.T) {
	b := newPartitionedBox(t, "b200")
	b.create(t, "1g.23gb", 0)
	if pending, err := b.p.SetMode(b.gpus[0], true); err != nil || pending {
		t.Errorf("%v, %v", pending, err)
	}
	if s := b.read(t); len(s.Slices) != 1 {
		t.Errorf("slices are %+v", s.Slices)
	}
}

func TestModeOfABusyGPUDoesNotChangeNotEvenAtTheNextReset(t *testing.T) {
	b := newMIGBox(t, simulated.Layout{Type: "h100", Count: 1})
	d := b.raw(t, 0)
	if err := simulated.SetInUse(d, true); err != nil {
		t.Fatal(err)
	}
	_, err := b.p.SetMode(b.gpus[0], true)
	wantKind(t, err, MIGInUse, "turn MIG on", "stop what uses it")
	if current, pending, _ := d.GetMigMode(); current != gonvml.DEVICE_MIG_DISABLE || pending != gonvml.DEVICE_MIG_DISABLE {
		t.Errorf("mode is %d, and %d after a reset", current, pending)
	}
	if err := simulated.SetInUse(d, false); err != nil {
		t.Fatal(err)
	}
	if pending, err := b.p.SetMode(b.gpus[0], true); err != nil || pending || !b.read(t).Enabled {
		t.Errorf("once it is idle: %v, %v", pending, err)
	}
}

func TestModeIsNotTurnedOffUnderSlices(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	s := b.create(t, "1g.10gb", 0)
	_, err := b.p.SetMode(b.gpus[0], false)
	wantKind(t, err, MIGInUse, "1 of them", "destroy them first")
	if err := b.p.Destroy(b.gpus[0], s); err != nil {
		t.Fatal(err)
	}
	if pending, err := b.p.SetMode(b.gpus[0], false); err != nil || pending || b.read(t).Enabled {
		t.Errorf("%v, %v", pending, err)
	}
}

// A slice in use is not destroyed, and nothing of it is.
func TestSliceInUseStaysWhole(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	s := b.create(t, "2g.20gb", 2)
	if err := simulated.SetInUse(b.byUUID(t, s.Devices[0].UUID), true); err != nil {
		t.Fatal(err)
	}
	wantKind(t, b.p.Destroy(b.gpus[0], s), MIGInUse, "destroy MIG slice 2g.20gb", "stop what uses it")
	if got := b.read(t); len(got.Slices) != 1 || len(got.Slices[0].Devices) != 1 {
		t.Errorf("%+v", got.Slices)
	}
	if err := simulated.SetInUse(b.byUUID(t, s.Devices[0].UUID), false); err != nil {
		t.Fatal(err)
	}
	if err := b.p.Destroy(b.gpus[0], s); err != nil {
		t.Error(err)
	}
}

// resetLater is a GPU of a virtual machine: its mode changes at the next start.
type resetLater struct {
	gonvml.Device
	pending *int
}

func (d resetLater) GetMigMode() (int, int, gonvml.Return) {
	current, _, code := d.Device.GetMigMode()
	return current, *d.pending, code
}

func (d resetLater) SetMigMode(mode int) (gonvml.Return, gonvml.Return) {
	*d.pending = mode
	return gonvml.ERROR_RESET_REQUIRED, gonvml.SUCCESS
}

func TestModeThatNeedsAResetIsPending(t *testing.T) {
	b := newMIGBox(t, simulated.Layout{Type: "a100", Count: 1})
	mode := gonvml.DEVICE_MIG_DISABLE
	b.wrap = func(d gonvml.Device) gonvml.Device { return resetLater{d, &mode} }
	for range 2 { // asking again changes nothing
		if pending, err := b.p.SetMode(b.gpus[0], true); err != nil || !pending {
			t.Errorf("%v, %v", pending, err)
		}
		if s := b.read(t); s.Enabled || !s.ResetPending {
			t.Errorf("%+v", s)
		}
	}
	_, err := b.p.Create(b.gpus[0], "1g.5gb", 0)
	wantKind(t, err, MIGModeOff)
	if pending, err := b.p.SetMode(b.gpus[0], false); err != nil || !pending || b.read(t).ResetPending {
		t.Errorf("taking the wish back: %v, %v", pending, err)
	}
}
