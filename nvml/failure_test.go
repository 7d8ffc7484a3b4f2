package nvml

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/simulated"
)

// sick is a simulated machine of which a part is out of order.
type sick struct {
	gonvml.Interface
	init    func() gonvml.Return
	count   func() (int, gonvml.Return)
	devices map[int]gonvml.Device // in place of the healthy one; nil is lost
	missing string                // a symbol that this driver does not know
}

func newSick(t *testing.T) *sick {
	t.Helper()
	healthy, err := simulated.New(simulated.Layout{Type: "h100", Count: 4})
	if err != nil {
		t.Fatal(err)
	}
	return &sick{Interface: healthy, devices: map[int]gonvml.Device{}}
}

func (s *sick) Init() gonvml.Return {
	if s.init != nil {
		return s.init()
	}
	return s.Interface.Init()
}

func (s *sick) DeviceGetCount() (int, gonvml.Return) {
	if s.count != nil {
		return s.count()
	}
	return s.Interface.DeviceGetCount()
}

func (s *sick) DeviceGetHandleByIndex(i int) (gonvml.Device, gonvml.Return) {
	d, replaced := s.devices[i]
	switch {
	case !replaced:
		return s.Interface.DeviceGetHandleByIndex(i)
	case d == nil:
		return nil, gonvml.ERROR_GPU_IS_LOST
	}
	return d, gonvml.SUCCESS
}

func (s *sick) Extensions() gonvml.ExtendedInterface { return s }

func (s *sick) LookupSymbol(symbol string) error {
	if symbol == s.missing {
		return errors.New("undefined symbol")
	}
	return nil
}

func (s *sick) healthy(t *testing.T, i int) gonvml.Device {
	t.Helper()
	d, code := s.Interface.DeviceGetHandleByIndex(i)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	return d
}

// stuck is a GPU whose name, or whose links, are answered only when it is let go.
type stuck struct {
	gonvml.Device
	name, links chan struct{}
}

func (d stuck) GetName() (string, gonvml.Return) {
	if d.name != nil {
		<-d.name
	}
	return d.Device.GetName()
}

func (d stuck) GetP2PStatus(other gonvml.Device, i gonvml.GpuP2PCapsIndex) (gonvml.GpuP2PStatus, gonvml.Return) {
	if d.links != nil {
		<-d.links
	}
	return d.Device.GetP2PStatus(other, i)
}

// mute is a GPU that answers nothing but its UUID.
type mute struct{ gonvml.Device }

func (mute) GetName() (string, gonvml.Return)                { return "", gonvml.ERROR_UNKNOWN }
func (mute) GetPciInfo() (p gonvml.PciInfo, r gonvml.Return) { return p, gonvml.ERROR_UNKNOWN }
func (mute) GetMemoryInfo() (m gonvml.Memory, r gonvml.Return) {
	return m, gonvml.ERROR_NOT_SUPPORTED
}
func (mute) GetMinorNumber() (int, gonvml.Return)  { return 0, gonvml.ERROR_NOT_SUPPORTED }
func (mute) GetMigMode() (int, int, gonvml.Return) { return 0, 0, gonvml.ERROR_NOT_SUPPORTED }
func (mute) GetMemoryAffinity(int, gonvml.AffinityScope) ([]uint, gonvml.Return) {
	return nil, gonvml.ERROR_NOT_SUPPORTED
}
func (mute) GetP2PStatus(gonvml.Device, gonvml.GpuP2PCapsIndex) (gonvml.GpuP2PStatus, gonvml.Return) {
	return 0, gonvml.ERROR_NOT_SUPPORTED
}

func indexes(inv Inventory) (out []int) {
	for _, g := range inv.GPUs {
		out = append(out, g.Index)
	}
	return out
}

func TestLostGPUBecomesAProblemAndTheOthersStay(t *testing.T) {
	s := newSick(t)
	s.devices[1] = nil
	inv, err := newLibrary(s, "").Inventory()
	if err != nil {
		t.Fatal(err)
	}
	if got := indexes(inv); len(got) != 3 || got[0] != 0 || got[1] != 2 || got[2] != 3 {
		t.Errorf("GPUs %v", got)
	}
	if len(inv.Problems) != 1 || inv.Problems[0].Index != 1 || !strings.Contains(inv.Problems[0].Detail, "GPU 1") {
		t.Errorf("problems %+v", inv.Problems)
	}
}

func TestQueryThatFailsLeavesItsFieldUnknown(t *testing.T) {
	s := newSick(t)
	s.devices[2] = mute{s.healthy(t, 2)}
	inv, err := newLibrary(s, "").Inventory()
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.GPUs) != 4 || len(inv.Problems) != 0 {
		t.Fatalf("inventory is %+v", inv)
	}
	g := inv.GPUs[2]
	if g.UUID == "" || g.Name != "" || g.Type != "" || g.PCIAddress != "" || g.MemoryBytes != 0 || g.NUMANode != -1 ||
		g.Minor != -1 || g.MIGCapable || g.MIGEnabled || g.NVLinkPeers != nil {
		t.Errorf("GPU is %+v", g)
	}
	if inv.GPUs[3].NUMANode != 0 || inv.GPUs[3].Type != "h100" {
		t.Errorf("its neighbour is %+v", inv.GPUs[3])
	}
}

func TestHangingGPUHoldsUpNobodyForLongAndIsAskedOnce(t *testing.T) {
	s := newSick(t)
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		s.devices[3] = stuck{Device: s.healthy(t, 3), name: letGo}
		l := newLibrary(s, "")

		began := time.Now()
		for round := range 3 {
			inv, err := l.Inventory()
			if err != nil {
				t.Fatal(err)
			}
			if len(inv.GPUs) != 3 || len(inv.Problems) != 1 || inv.Problems[0].Index != 3 {
				t.Errorf("round %d: inventory is %+v", round, inv)
			}
		}
		if waited := time.Since(began); waited != queryLimit {
			t.Errorf("three inventories took %v; only the first may wait, %v", waited, queryLimit)
		}
		if err := l.Close(); err == nil || !strings.Contains(err.Error(), "GPU 3") {
			t.Errorf("closing under a running call gave %v", err)
		}
		close(letGo)
	})
}

func TestGPUThatAnswersAgainReturns(t *testing.T) {
	s := newSick(t)
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		s.devices[0] = stuck{Device: s.healthy(t, 0), name: letGo}
		l := newLibrary(s, "")
		if inv, err := l.Inventory(); err != nil || len(inv.GPUs) != 3 {
			t.Fatalf("%+v, %v", inv, err)
		}
		close(letGo)
		synctest.Wait()
		if inv, err := l.Inventory(); err != nil || len(inv.GPUs) != 4 || len(inv.Problems) != 0 {
			t.Errorf("%+v, %v", inv, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestGPUWhoseLinksHangIsThereWithUnknownPeers(t *testing.T) {
	s := newSick(t)
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		s.devices[0] = stuck{Device: s.healthy(t, 0), links: letGo}
		inv, err := newLibrary(s, "").Inventory()
		if err != nil {
			t.Fatal(err)
		}
		if len(inv.GPUs) != 4 || inv.GPUs[0].NVLinkPeers != nil || len(inv.GPUs[1].NVLinkPeers) == 0 {
			t.Errorf("inventory is %+v", inv)
		}
		close(letGo)
	})
}

func TestHangingDriverIsAnErrorNotAHang(t *testing.T) {
	s := newSick(t)
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		s.init = func() gonvml.Return { <-letGo; return gonvml.SUCCESS }
		l := newLibrary(s, "")
		if inv, err := l.Inventory(); err == nil || !strings.Contains(err.Error(), "did not answer") {
			t.Errorf("%+v, %v", inv, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		close(letGo)
	})
}

func TestDriverThatStartsLaterIsFound(t *testing.T) {
	s := newSick(t)
	code := gonvml.ERROR_DRIVER_NOT_LOADED
	s.init = func() gonvml.Return { return code }
	l := newLibrary(s, "")
	inv, err := l.Inventory()
	if err != nil || len(inv.GPUs) != 0 || !strings.Contains(inv.Note, "modprobe nvidia") {
		t.Errorf("%+v, %v", inv, err)
	}
	code = gonvml.SUCCESS
	if inv, err := l.Inventory(); err != nil || len(inv.GPUs) != 4 || inv.Note != "" {
		t.Errorf("%+v, %v", inv, err)
	}
}

func TestEveryReasonForNoGPUsIsExplained(t *testing.T) {
	for _, code := range []gonvml.Return{
		gonvml.ERROR_LIBRARY_NOT_FOUND, gonvml.ERROR_DRIVER_NOT_LOADED, gonvml.ERROR_LIB_RM_VERSION_MISMATCH,
		gonvml.ERROR_NO_PERMISSION, gonvml.ERROR_UNKNOWN,
	} {
		if why := whyNoDriver(code); why == "" {
			t.Errorf("%v is not explained", code)
		}
	}
	s := newSick(t)
	s.count = func() (int, gonvml.Return) { return 0, gonvml.SUCCESS }
	if inv, err := newLibrary(s, "").Inventory(); err != nil || !strings.Contains(inv.Note, "finds no GPU") {
		t.Errorf("no GPUs: %+v, %v", inv, err)
	}
	s = newSick(t)
	for i := range 4 {
		s.devices[i] = nil
	}
	if inv, err := newLibrary(s, "").Inventory(); err != nil || !strings.Contains(inv.Note, "none of this machine's 4 GPUs") {
		t.Errorf("all lost: %+v, %v", inv, err)
	}
	s = newSick(t)
	s.count = func() (int, gonvml.Return) { return 0, gonvml.ERROR_UNKNOWN }
	if inv, err := newLibrary(s, "").Inventory(); err == nil {
		t.Errorf("count fails: %+v", inv)
	}
}

// Calling a symbol that the library lacks would end the process.
func TestOldDriverIsNotAskedForWhatItDoesNotKnow(t *testing.T) {
	for symbol, unknown := range map[string]func(Inventory) bool{
		"nvmlSystemGetCudaDriverVersion": func(inv Inventory) bool { return inv.CUDAVersion == "" },
		"nvmlDeviceGetMigMode":           func(inv Inventory) bool { return !inv.GPUs[0].MIGCapable },
		"nvmlDeviceGetMemoryAffinity":    func(inv Inventory) bool { return inv.GPUs[0].NUMANode == -1 },
		"nvmlDeviceGetP2PStatus":         func(inv Inventory) bool { return inv.GPUs[0].NVLinkPeers == nil },
	} {
		s := newSick(t)
		s.missing = symbol
		inv, err := newLibrary(s, "").Inventory()
		if err != nil || len(inv.GPUs) != 4 {
			t.Fatalf("without %s: %+v, %v", symbol, inv, err)
		}
		if !unknown(inv) {
			t.Errorf("without %s it was asked all the same: %+v", symbol, inv)
		}
	}
}
