package simulated

import (
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

func newFaulty(t *testing.T, layout Layout) *Faulty {
	t.Helper()
	f, err := NewFaulty(layout)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func handle(t *testing.T, m gonvml.Interface, index int) gonvml.Device {
	t.Helper()
	d, code := m.DeviceGetHandleByIndex(index)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	return d
}

func uuids(t *testing.T, m gonvml.Interface) (out []string) {
	t.Helper()
	count, code := m.DeviceGetCount()
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	for i := range count {
		uuid, code := handle(t, m, i).GetUUID()
		if code != gonvml.SUCCESS {
			t.Fatal(code)
		}
		out = append(out, uuid)
	}
	return out
}

func TestFaultyMachineIsTheSameAsAWellOneUntilItIsBroken(t *testing.T) {
	layout := Layout{"h100", 4}
	f := newFaulty(t, layout)
	if got, want := uuids(t, f), uuids(t, newMachine(t, layout)); !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if status, code := handle(t, f, 0).GetP2PStatus(handle(t, f, 1), gonvml.P2P_CAPS_INDEX_NVLINK); code != gonvml.SUCCESS || status != gonvml.P2P_STATUS_OK {
		t.Errorf("peers: %v, %v", status, code)
	}
	if _, err := NewFaulty(Layout{"v100", 1}); err == nil {
		t.Error("a layout that no mode names was built")
	}
}

// Every call of the interface, so that one that go-nvml adds is not forgotten.
func TestLostGPUSaysSoInEveryCall(t *testing.T) {
	f := newFaulty(t, Layout{"h100", 2})
	d := handle(t, f, 0)
	f.GPU(0).Lose()
	v, device, code := reflect.ValueOf(d), reflect.TypeFor[gonvml.Device](), reflect.TypeFor[gonvml.Return]()
	asked := 0
	for i := range device.NumMethod() {
		m := device.Method(i)
		outs := m.Type.NumOut()
		if outs == 0 || m.Type.Out(outs-1) != code {
			continue
		}
		args := make([]reflect.Value, m.Type.NumIn())
		for a := range args {
			args[a] = reflect.Zero(m.Type.In(a))
		}
		got := v.MethodByName(m.Name).Call(args)
		if got[outs-1].Interface() != gonvml.ERROR_GPU_IS_LOST {
			t.Errorf("%s answers %v", m.Name, got[outs-1])
		}
		asked++
	}
	if asked < 100 {
		t.Errorf("only %d calls were asked", asked)
	}
	if _, code := f.DeviceGetHandleByIndex(0); code != gonvml.ERROR_GPU_IS_LOST {
		t.Errorf("its handle: %v", code)
	}
	if _, code := handle(t, f, 1).GetUUID(); code != gonvml.SUCCESS {
		t.Errorf("its neighbour: %v", code)
	}
	f.GPU(0).Repair()
	if _, code := d.GetUUID(); code != gonvml.SUCCESS {
		t.Errorf("after the repair: %v", code)
	}
}

func TestHungCallReturnsWhenItIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty(t, Layout{"h100", 2})
		d := handle(t, f, 1)
		release := f.GPU(1).Hang()
		done := make(chan gonvml.Return, 1)
		go func() {
			_, code := d.GetName()
			done <- code
		}()
		synctest.Wait()
		if len(done) != 0 {
			t.Fatal("it answered")
		}
		if _, code := handle(t, f, 0).GetName(); code != gonvml.SUCCESS {
			t.Error(code)
		}
		release()
		if code := <-done; code != gonvml.SUCCESS {
			t.Error(code)
		}
		if _, code := d.GetName(); code != gonvml.SUCCESS {
			t.Error(code)
		}
	})
}

func TestGPUVanishesComesBackMovesAndIsReplaced(t *testing.T) {
	f := newFaulty(t, Layout{"h100", 3})
	was := uuids(t, f)
	old := handle(t, f, 0)
	f.GPU(0).Vanish()
	if got := uuids(t, f); !reflect.DeepEqual(got, was[1:]) {
		t.Errorf("after it vanished: %q", got)
	}
	if _, code := old.GetUUID(); code != gonvml.ERROR_GPU_IS_LOST {
		t.Errorf("its old handle: %v", code)
	}
	f.GPU(0).Return()
	if got := uuids(t, f); !reflect.DeepEqual(got, []string{was[1], was[2], was[0]}) {
		t.Errorf("after it came back: %q", got)
	}
	f.Reorder(2, 0, 1)
	if got := uuids(t, f); !reflect.DeepEqual(got, []string{was[2], was[0], was[1]}) {
		t.Errorf("in another order: %q", got)
	}
	if index, code := old.GetIndex(); code != gonvml.SUCCESS || index != 1 {
		t.Errorf("its index is %d, %v", index, code)
	}
	before, _ := old.GetPciInfo()
	f.GPU(0).Replace()
	after, _ := old.GetPciInfo()
	got := uuids(t, f)
	if got[1] == was[0] || !strings.HasPrefix(got[1], "GPU-") || before != after {
		t.Errorf("replaced: %q", got)
	}
	if d, code := f.DeviceGetHandleByUUID(got[1]); code != gonvml.SUCCESS || d != old {
		t.Errorf("by its UUID: %v", code)
	}
	if _, code := f.DeviceGetHandleByUUID(was[0]); code != gonvml.ERROR_NOT_FOUND {
		t.Errorf("by its old UUID: %v", code)
	}
}

func TestCallOfARemovedSymbolEndsInAPanic(t *testing.T) {
	f := newFaulty(t, Layout{"h100", 1})
	d := handle(t, f, 0)
	f.RemoveSymbols("nvmlDeviceGetRemappedRows")
	if f.Extensions().LookupSymbol("nvmlDeviceGetRemappedRows") == nil || f.LookupSymbol("nvmlDeviceGetUUID") != nil {
		t.Error("the wrong symbol is missing")
	}
	defer func() {
		if recover() == nil {
			t.Error("it was answered")
		}
	}()
	d.GetRemappedRows()
}
