package nvml

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/simulated"
)

// migBox is a simulated machine whose MIG calls a test can replace.
type migBox struct {
	gonvml.Interface
	wrap    func(gonvml.Device) gonvml.Device // nil leaves devices as they are
	missing []string                          // symbols that this driver does not know
	init    gonvml.Return
	lost    gonvml.Return // what opening a GPU answers

	library *Library
	p       *Partitioner
	gpus    []string // UUIDs
}

func newMIGBox(t *testing.T, layout simulated.Layout) *migBox {
	t.Helper()
	machine, err := simulated.New(layout)
	if err != nil {
		t.Fatal(err)
	}
	b := &migBox{Interface: machine}
	b.library = newLibrary(b, layout.String())
	b.p = NewPartitioner(b.library)
	for i := range layout.Count {
		uuid, _ := b.raw(t, i).GetUUID()
		b.gpus = append(b.gpus, uuid)
	}
	return b
}

// newPartitionedBox has MIG on, on its first GPU.
func newPartitionedBox(t *testing.T, gpuType string) *migBox {
	t.Helper()
	b := newMIGBox(t, simulated.Layout{Type: gpuType, Count: 1})
	if pending, err := b.p.SetMode(b.gpus[0], true); err != nil || pending {
		t.Fatal(pending, err)
	}
	return b
}

func (b *migBox) Init() gonvml.Return                  { return b.init }
func (b *migBox) Extensions() gonvml.ExtendedInterface { return b }
func (b *migBox) raw(t *testing.T, i int) gonvml.Device {
	return mustBe(t)(b.Interface.DeviceGetHandleByIndex(i))
}
func (b *migBox) byUUID(t *testing.T, u string) gonvml.Device {
	return mustBe(t)(b.Interface.DeviceGetHandleByUUID(u))
}

func mustBe(t *testing.T) func(gonvml.Device, gonvml.Return) gonvml.Device {
	return func(d gonvml.Device, code gonvml.Return) gonvml.Device {
		t.Helper()
		if code != gonvml.SUCCESS {
			t.Fatal(code)
		}
		return d
	}
}

func (b *migBox) DeviceGetHandleByUUID(uuid string) (gonvml.Device, gonvml.Return) {
	if b.lost != gonvml.SUCCESS {
		return nil, b.lost
	}
	d, code := b.Interface.DeviceGetHandleByUUID(uuid)
	if code == gonvml.SUCCESS && b.wrap != nil {
		d = b.wrap(d)
	}
	return d, code
}

func (b *migBox) LookupSymbol(symbol string) error {
	if slices.Contains(b.missing, symbol) {
		return fmt.Errorf("undefined symbol %s", symbol)
	}
	return b.Interface.Extensions().LookupSymbol(symbol)
}

func (b *migBox) read(t *testing.T) MIGState {
	t.Helper()
	s, err := b.p.Read(b.gpus[0])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *migBox) create(t *testing.T, profile string, start int) MIGSlice {
	t.Helper()
	s, err := b.p.Create(b.gpus[0], profile, start)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantKind(t *testing.T, err error, kind MIGErrorKind, says ...string) {
	t.Helper()
	if MIGErrorKindOf(err) != kind {
		t.Errorf("%v is %q, want %q", err, MIGErrorKindOf(err), kind)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

// As nvidia-smi mig -lgip and -lgipp list them on a real A100 and H100; the later
// GPUs have the same shares.
func TestSimulatedGPUsOfferTheProfilesOfTheRealOnes(t *testing.T) {
	type offer struct {
		name   string
		max    int
		places string
	}
	// Each GPU names the same seven shares by its own memory.
	shares := func(names ...string) (out []offer) {
		for i, rest := range []offer{
			{"", 7, "[{0 1} {1 1} {2 1} {3 1} {4 1} {5 1} {6 1}]"},
			{"", 3, "[{0 2} {2 2} {4 2}]"},
			{"", 2, "[{0 4} {4 4}]"},
			{"", 1, "[{0 4}]"},
			{"", 1, "[{0 8}]"},
			{"", 1, "[{0 1} {1 1} {2 1} {3 1} {4 1} {5 1} {6 1}]"},
			{"", 4, "[{0 2} {2 2} {4 2} {6 2}]"},
		} {
			out = append(out, offer{names[i], rest.max, rest.places})
		}
		return out
	}
	for gpuType, want := range map[string][]offer{
		"a100": shares("1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb", "1g.5gb+me", "1g.10gb"),
		"h100": shares("1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb", "1g.10gb+me", "1g.20gb"),
		"h200": shares("1g.18gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb", "1g.18gb+me", "1g.35gb"),
		"b200": shares("1g.23gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb", "1g.23gb+me", "1g.45gb"),
	} {
		s := newMIGBox(t, simulated.Layout{Type: gpuType, Count: 1}).read(t)
		if s.Enabled || s.ResetPending || len(s.Slices) != 0 || s.Slices == nil {
			t.Errorf("%s with MIG off: %+v", gpuType, s)
		}
		var got []offer
		for _, p := range s.Profiles {
			got = append(got, offer{p.Name, p.MaxSlices, fmt.Sprint(p.Placements)})
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s offers\n%v, want\n%v", gpuType, got, want)
		}
	}
	s := newMIGBox(t, simulated.Layout{Type: "h100", Count: 1}).read(t)
	if p, ok := s.Profile("3g.40gb"); !ok || p.ComputeSlices != 3 || p.MemoryBytes != 40<<30 || p.Multiprocessors != 48 || p.CopyEngines != 3 || p.Decoders != 2 {
		t.Errorf("3g.40gb is %+v, %v", p, ok)
	}
	if p, ok := s.Profile("1g.10gb+me"); !ok || p.JPEGEngines != 1 || p.OFAEngines != 1 {
		t.Errorf("1g.10gb+me is %+v, %v", p, ok)
	}
	if _, ok := s.Profile("1g.5gb"); ok {
		t.Error("an H100 has 1g.5gb")
	}
}

func TestSliceThatWasMadeIsReadAgainAndGoesWithItsDevice(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	three := b.create(t, "3g.40gb", 4)
	one := b.create(t, "1g.10gb", 0)
	if three.Profile != "3g.40gb" || three.Placement != (MIGPlacement{4, 4}) || len(three.Devices) != 1 || !strings.HasPrefix(three.Devices[0].UUID, "MIG-") {
		t.Errorf("created %+v", three)
	}
	if s := b.read(t); !s.Enabled || !reflect.DeepEqual(s.Slices, []MIGSlice{one, three}) {
		t.Errorf("read %+v", s.Slices)
	}
	d := b.byUUID(t, three.Devices[0].UUID)
	if is, code := d.IsMigDeviceHandle(); !is || code != gonvml.SUCCESS {
		t.Errorf("its UUID finds %v, %v", is, code)
	}
	if err := b.p.Destroy(b.gpus[0], three); err != nil {
		t.Fatal(err)
	}
	if s := b.read(t); !reflect.DeepEqual(s.Slices, []MIGSlice{one}) {
		t.Errorf("after destroying one: %+v", s.Slices)
	}
	if _, code := b.Interface.DeviceGetHandleByUUID(three.Devices[0].UUID); code != gonvml.ERROR_NOT_FOUND {
		t.Errorf("its UUID still finds something: %v", code)
	}
	wantKind(t, b.p.Destroy(b.gpus[0], three), MIGGone, "read the GPU's MIG state again")
}

func TestProfileThatThisGPUDoesNotHaveIsRefusedWithThoseItHas(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	for _, name := range []string{"1g.5gb", "", "MIG 1g.10gb", "1G.10GB"} {
		_, err := b.p.Create(b.gpus[0], name, 0)
		wantKind(t, err, MIGUnknownProfile, fmt.Sprintf("%q", name), "1g.10gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb, 1g.10gb+me, 1g.20gb")
		if e, ok := err.(*MIGError); !ok || len(e.Profiles) != 7 || e.GPU != b.gpus[0] {
			t.Errorf("%#v", err)
		}
	}
	for _, start := range []int{-1, 1, 8, 1 << 40} {
		_, err := b.p.Create(b.gpus[0], "2g.20gb", start)
		wantKind(t, err, MIGBadPlacement, "[0 2 4]")
	}
	if s := b.read(t); len(s.Slices) != 0 {
		t.Errorf("refused calls left %+v", s.Slices)
	}
}

func TestSliceWithoutRoomIsRefusedAndTheOthersStay(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	b.create(t, "3g.40gb", 4)
	_, err := b.p.Create(b.gpus[0], "7g.80gb", 0)
	wantKind(t, err, MIGNoRoom, "create MIG slice 7g.80gb", b.gpus[0])
	_, err = b.p.Create(b.gpus[0], "1g.10gb", 6)
	wantKind(t, err, MIGNoRoom)
	b.create(t, "1g.10gb+me", 0)
	_, err = b.p.Create(b.gpus[0], "1g.10gb+me", 1) // the GPU has these engines once
	wantKind(t, err, MIGNoRoom)
	if s := b.read(t); len(s.Slices) != 2 {
		t.Errorf("%+v", s.Slices)
	}
}

func TestSlicesMadeAtTheSameTimeNeverShareMemory(t *testing.T) {
	b := newPartitionedBox(t, "a100")
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := map[string]int{}
	for range 3 {
		for start := range 7 {
			wg.Go(func() {
				s, err := b.p.Create(b.gpus[0], "1g.5gb", start)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made[s.Devices[0].UUID]++
				} else if MIGErrorKindOf(err) != MIGNoRoom {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if s := b.read(t); len(s.Slices) != 7 || len(made) != 7 {
		t.Errorf("%d slices, %v", len(s.Slices), made)
	}
}

func TestSliceMadeByHandIsShownAndNotDestroyedInsteadOfOurs(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	ours := b.create(t, "2g.20gb", 0)
	d := b.raw(t, 0)
	gi, code := d.GetGpuInstanceById(ours.DriverID)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	destroyByHand(t, gi)
	_, replaced := makeByHand(t, d, gonvml.GPU_INSTANCE_PROFILE_1_SLICE_REV2, gonvml.COMPUTE_INSTANCE_PROFILE_1_SLICE)

	s := b.read(t)
	if len(s.Slices) != 1 || s.Slices[0].Profile != "1g.20gb" || s.Slices[0].DriverID != ours.DriverID || s.Slices[0].Devices[0].UUID != replaced {
		t.Fatalf("read %+v, and the driver's number %d was to be used again", s.Slices, ours.DriverID)
	}
	wantKind(t, b.p.Destroy(b.gpus[0], ours), MIGGone, "another slice, 1g.20gb at 0")
	if again := b.read(t); !reflect.DeepEqual(s, again) {
		t.Errorf("it became %+v", again.Slices)
	}
}

func TestSliceWithSeveralDevicesOrNoneIsShownAndOnlyTheEmptyOneDestroyed(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	shared, _ := makeByHand(t, b.raw(t, 0), gonvml.GPU_INSTANCE_PROFILE_3_SLICE, gonvml.COMPUTE_INSTANCE_PROFILE_1_SLICE)
	info, _ := shared.GetComputeInstanceProfileInfo(gonvml.COMPUTE_INSTANCE_PROFILE_1_SLICE, 0)
	if _, code := shared.CreateComputeInstance(&info); code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	makeByHand(t, b.raw(t, 0), gonvml.GPU_INSTANCE_PROFILE_3_SLICE, -1)

	s := b.read(t)
	if len(s.Slices) != 2 || len(s.Slices[0].Devices) != 2 || len(s.Slices[1].Devices) != 0 || s.Slices[1].Devices == nil {
		t.Fatalf("read %+v", s.Slices)
	}
	wantKind(t, b.p.Destroy(b.gpus[0], s.Slices[0]), MIGInUse, "2 devices")
	if err := b.p.Destroy(b.gpus[0], s.Slices[1]); err != nil {
		t.Error(err)
	}
	if again := b.read(t); !reflect.DeepEqual(again.Slices, s.Slices[:1]) {
		t.Errorf("left %+v", again.Slices)
	}
	wantKind(t, b.p.Destroy(b.gpus[0], MIGSlice{DriverID: s.Slices[0].DriverID, Profile: "3g.40gb", Placement: s.Slices[0].Placement}), MIGGone)
}

// makeByHand does what an operator does by nvidia-smi. computeProfile -1 is none.
func makeByHand(t *testing.T, d gonvml.Device, profile, computeProfile int) (gi gonvml.GpuInstance, uuid string) {
	t.Helper()
	info, code := d.GetGpuInstanceProfileInfo(profile)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	before := map[string]bool{}
	for _, uuid := range uuidsOf(t, d) {
		before[uuid] = true
	}
	if gi, code = d.CreateGpuInstance(&info); code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	if computeProfile < 0 {
		return gi, ""
	}
	computeInfo, _ := gi.GetComputeInstanceProfileInfo(computeProfile, gonvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED)
	if _, code := gi.CreateComputeInstance(&computeInfo); code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	for _, uuid := range uuidsOf(t, d) {
		if !before[uuid] {
			return gi, uuid
		}
	}
	t.Fatal("no new device")
	return nil, ""
}

func uuidsOf(t *testing.T, d gonvml.Device) (out []string) {
	t.Helper()
	devices, err := readMIGDevices(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, some := range devices {
		for _, device := range some {
			out = append(out, device.UUID)
		}
	}
	return out
}

func destroyByHand(t *testing.T, gi gonvml.GpuInstance) {
	t.Helper()
	some, err := computeInstancesOf(gi)
	if err != nil {
		t.Fatal(err)
	}
	for _, ci := range some {
		if code := ci.Destroy(); code != gonvml.SUCCESS {
			t.Fatal(code)
		}
	}
	if code := gi.Destroy(); code != gonvml.SUCCESS {
		t.Fatal(code)
	}
}
