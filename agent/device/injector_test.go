package device

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	oci "github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"
	"tags.cncf.io/container-device-interface/pkg/parser"
	specs "tags.cncf.io/container-device-interface/specs-go"

	"ecolink/nvml"
)

// box is a simulated machine with an Injector over a directory of its own.
type box struct {
	*Injector
	inv nvml.Inventory
	dir string
}

func newBox(t *testing.T, mode string) box {
	t.Helper()
	l, err := nvml.Open(mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	inv, err := l.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	return box{inv: inv, dir: t.TempDir()}.restart(t)
}

// restart is EcoLink killed and started again over the same files.
func (b box) restart(t *testing.T) box {
	t.Helper()
	in, err := New(b.inv, b.dir)
	if err != nil {
		t.Fatal(err)
	}
	return box{Injector: in, inv: b.inv, dir: b.dir}
}

func (b box) uuids(indexes ...int) (out []string) {
	for _, i := range indexes {
		out = append(out, b.inv.GPUs[i].UUID)
	}
	return out
}

func (b box) mustPrepare(t *testing.T, owner string, indexes ...int) []string {
	t.Helper()
	names, err := b.Prepare(owner, b.uuids(indexes...))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if _, _, _, err := parser.ParseQualifiedName(n); err != nil {
			t.Errorf("%q is no CDI name: %v", n, err)
		}
	}
	return names
}

func (b box) mustInject(t *testing.T, names []string) *oci.Spec {
	t.Helper()
	spec := newSpec()
	if err := b.Inject(spec, names); err != nil {
		t.Fatal(err)
	}
	return spec
}

// newSpec is a container as an image and a user make it, with a try at every GPU.
func newSpec() *oci.Spec {
	return &oci.Spec{
		Process: &oci.Process{Env: []string{"PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all", "HOME=/root", "NVIDIA_VISIBLE_DEVICES=0"}},
		Mounts:  []oci.Mount{{Destination: "/run", Type: "tmpfs", Source: "tmpfs"}},
	}
}

func visible(spec *oci.Spec) (out []string) {
	for _, e := range spec.Process.Env {
		if v, ok := strings.CutPrefix(e, "NVIDIA_VISIBLE_DEVICES="); ok {
			out = append(out, v)
		}
	}
	return out
}

// description is what a person in the container reads.
func description(t *testing.T, spec *oci.Spec) string {
	t.Helper()
	i := slices.IndexFunc(spec.Mounts, func(m oci.Mount) bool { return m.Destination == "/run/ecolink/gpus.txt" })
	if i < 0 {
		t.Fatalf("no description among %+v", spec.Mounts)
	}
	m := spec.Mounts[i]
	if m.Type != "bind" || !slices.Contains(m.Options, "bind") || !slices.Contains(m.Options, "ro") || !filepath.IsAbs(m.Source) {
		t.Errorf("it is mounted by %+v", m)
	}
	info, err := os.Stat(m.Source)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o644 {
		t.Errorf("it has mode %v, and users of the container cannot read it", info.Mode())
	}
	text, err := os.ReadFile(m.Source)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestContainerSeesExactlyItsSimulatedGPUs(t *testing.T) {
	b := newBox(t, "simulated:h100x8")
	names := b.mustPrepare(t, "instance-142", 2, 5)
	if !slices.Equal(names, []string{"ecolink.dev/simulated-gpu=instance-142"}) {
		t.Errorf("names %v", names)
	}
	spec := b.mustInject(t, names)
	if got := visible(spec); !slices.Equal(got, []string{strings.Join(b.uuids(2, 5), ",")}) {
		t.Errorf("NVIDIA_VISIBLE_DEVICES is %q", got)
	}
	if !slices.Contains(spec.Process.Env, "PATH=/bin") || !slices.Contains(spec.Process.Env, "HOME=/root") {
		t.Errorf("environment is %q", spec.Process.Env)
	}
	if spec.Mounts[0].Destination != "/run" {
		t.Errorf("the description is mounted before /run, which hides it: %+v", spec.Mounts)
	}
	g2, g5 := b.inv.GPUs[2], b.inv.GPUs[5]
	want := "SIMULATED GPUs (h100x8): there is no GPU hardware here, and CUDA programs will find none.\n" +
		"GPU 2: NVIDIA H100 80GB HBM3, 80 GiB, UUID " + g2.UUID + ", PCI 0000:52:00.0\n" +
		"GPU 5: NVIDIA H100 80GB HBM3, 80 GiB, UUID " + g5.UUID + ", PCI 0000:c3:00.0\n"
	if got := description(t, spec); got != want {
		t.Errorf("description is\n%s\nwant\n%s", got, want)
	}
}

func TestContainerWithoutGPUsGetsNoneWhateverItsImageSays(t *testing.T) {
	for _, mode := range []string{"simulated:h100x1", "auto"} {
		b := newBox(t, mode)
		names, err := b.Prepare("instance-1", nil)
		if err != nil || len(names) != 0 {
			t.Fatalf("%v, %v", names, err)
		}
		spec := b.mustInject(t, names)
		if got := visible(spec); !slices.Equal(got, []string{"void"}) {
			t.Errorf("%s: NVIDIA_VISIBLE_DEVICES is %q", mode, got)
		}
		if len(spec.Mounts) != 1 || spec.Linux != nil {
			t.Errorf("%s: spec is %+v", mode, spec)
		}
		if owners, err := b.Owners(); err != nil || len(owners) != 0 {
			t.Errorf("%s: owners %v, %v", mode, owners, err)
		}
		bare := &oci.Spec{}
		if err := b.Inject(bare, nil); err != nil || !slices.Equal(visible(bare), []string{"void"}) {
			t.Errorf("%s: a spec without a process became %+v, %v", mode, bare, err)
		}
	}
}

func TestTwoOwnersDoNotSeeEachOther(t *testing.T) {
	b := newBox(t, "simulated:a100x4")
	one, two := b.mustPrepare(t, "instance-1", 0, 1), b.mustPrepare(t, "instance-2", 3)
	first, second := b.mustInject(t, one), b.mustInject(t, two)
	if got := visible(first); !slices.Equal(got, []string{strings.Join(b.uuids(0, 1), ",")}) {
		t.Errorf("instance-1 sees %q", got)
	}
	if got := visible(second); !slices.Equal(got, b.uuids(3)) {
		t.Errorf("instance-2 sees %q", got)
	}
	if text := description(t, second); strings.Contains(text, b.uuids(0)[0]) || strings.Count(text, "\n") != 2 {
		t.Errorf("instance-2 reads\n%s", text)
	}
	if owners, err := b.Owners(); err != nil || !slices.Equal(owners, []string{"instance-1", "instance-2"}) {
		t.Errorf("owners %v, %v", owners, err)
	}
	if err := b.Release("instance-1"); err != nil {
		t.Fatal(err)
	}
	if err := b.Inject(newSpec(), one); err == nil || !strings.Contains(err.Error(), one[0]) {
		t.Errorf("a released name gave %v", err)
	}
	if got := visible(b.mustInject(t, two)); !slices.Equal(got, b.uuids(3)) {
		t.Errorf("after its neighbour has gone instance-2 sees %q", got)
	}
}

func TestRestartInjectsWhatWasPreparedBefore(t *testing.T) {
	b := newBox(t, "simulated:b200x8")
	names := b.mustPrepare(t, "cluster-7-worker_3", 0, 1, 2, 3, 4, 5, 6, 7)
	before := b.mustInject(t, names)
	b = b.restart(t)
	if after := b.mustInject(t, names); !reflect.DeepEqual(before, after) {
		t.Errorf("after a restart:\n%+v\nbefore:\n%+v", after, before)
	}
	if owners, err := b.Owners(); err != nil || !slices.Equal(owners, []string{"cluster-7-worker_3"}) {
		t.Errorf("owners %v, %v", owners, err)
	}
}

func TestPreparingAgainKeepsTheFilesThatARunningContainerHasMounted(t *testing.T) {
	b := newBox(t, "simulated:h200x2")
	names := b.mustPrepare(t, "instance-9", 0)
	source := b.mustInject(t, names).Mounts[1].Source
	before, err := os.Stat(source)
	if err != nil {
		t.Fatal(err)
	}
	if again := b.mustPrepare(t, "instance-9", 0); !slices.Equal(again, names) {
		t.Errorf("names %v, then %v", names, again)
	}
	after, err := os.Stat(source)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Error("the same preparation wrote the description again")
	}
	b.mustPrepare(t, "instance-9", 1)
	if got := visible(b.mustInject(t, names)); !slices.Equal(got, b.uuids(1)) {
		t.Errorf("resumed on another GPU it sees %q", got)
	}
}

func TestUnknownOrRepeatedGPUIsRefusedByName(t *testing.T) {
	b := newBox(t, "simulated:h100x2")
	for _, uuids := range [][]string{{"GPU-unknown"}, {b.uuids(0)[0], "GPU-unknown"}, {b.uuids(1)[0], b.uuids(1)[0]}, {""}} {
		names, err := b.Prepare("instance-3", uuids)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", uuids[len(uuids)-1])) || !strings.Contains(err.Error(), "instance-3") {
			t.Errorf("Prepare(%q) = %v, %v", uuids, names, err)
		}
	}
	if owners, err := b.Owners(); err != nil || len(owners) != 0 {
		t.Errorf("owners %v, %v", owners, err)
	}
}

func TestUnknownNameIsRefusedAndLeavesTheSpecAsItWas(t *testing.T) {
	b := newBox(t, "simulated:h100x2")
	known := b.mustPrepare(t, "instance-1", 0)[0]
	for _, bad := range []string{
		"", "instance-1", "ecolink.dev/simulated-gpu=instance-2", "ecolink.dev/simulated-gpu=", "ecolink.dev/other=instance-1",
		"nvidia.com/gpu=" + b.uuids(0)[0], "nvidia.com/gpu=all",
		"ecolink.dev/simulated-gpu=../instance-1", "ecolink.dev/simulated-gpu=a..b", "ecolink.dev/simulated-gpu=a:b",
		"ecolink.dev/simulated-gpu=" + strings.Repeat("a", 300),
	} {
		spec := newSpec()
		if err := b.Inject(spec, []string{known, bad}); err == nil {
			t.Errorf("%q was injected", bad)
		}
		if !reflect.DeepEqual(spec, newSpec()) {
			t.Errorf("%q changed the spec to %+v", bad, spec)
		}
	}
	if err := b.Inject(nil, nil); err == nil {
		t.Error("no spec was accepted")
	}
}

func TestOwnerThatCouldLeaveTheDirectoryIsRefused(t *testing.T) {
	b := newBox(t, "simulated:h100x1")
	for _, owner := range []string{
		"", ".", "..", "../x", "a/b", "/etc/passwd", `a\b`, "a.b", "a b", "a\x00b", "a\nb", "-a", "a-", "_a", "a_", "ä", "a=b", "a:b",
		strings.Repeat("a", 129),
	} {
		if names, err := b.Prepare(owner, b.uuids(0)); err == nil {
			t.Errorf("Prepare(%q) = %v", owner, names)
		}
		if err := b.Release(owner); err == nil {
			t.Errorf("Release(%q) succeeded", owner)
		}
	}
	b.mustPrepare(t, strings.Repeat("a", 128), 0)
}

func TestReleaseOfNothingIsFine(t *testing.T) {
	b := newBox(t, "simulated:h100x1")
	for range 2 {
		if err := b.Release("instance-1"); err != nil {
			t.Error(err)
		}
	}
}

func TestRestartFindsLeftoversAndReleaseRemovesThem(t *testing.T) {
	b := newBox(t, "simulated:h100x4")
	b.mustPrepare(t, "instance-1", 0)
	b.mustPrepare(t, "instance-2", 1)
	dir := filepath.Join(b.dir, "simulated")
	// Killed within Release, and within a write.
	if err := os.Remove(filepath.Join(dir, "instance-2.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "instance-3.json.123.tmp"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b = b.restart(t)
	owners, err := b.Owners()
	if err != nil || !slices.Equal(owners, []string{"instance-1", "instance-2"}) {
		t.Fatalf("owners %v, %v", owners, err)
	}
	for _, owner := range owners {
		if err := b.Release(owner); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v are left, %v", left, err)
	}
}

func TestDamagedFileIsAnErrorAndPreparingMendsIt(t *testing.T) {
	b := newBox(t, "simulated:h100x1")
	names := b.mustPrepare(t, "instance-1", 0)
	for _, damage := range []string{"", "{", `{"cdiVersion":"0.4.0","kind":"ecolink.dev/simulated-gpu","devices":[]}`} {
		if err := os.WriteFile(filepath.Join(b.dir, "simulated", "instance-1.json"), []byte(damage), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := b.Inject(newSpec(), names); err == nil || !strings.Contains(err.Error(), "prepare it again") {
			t.Errorf("%q gave %v", damage, err)
		}
		b.mustPrepare(t, "instance-1", 0)
		b.mustInject(t, names)
	}
}

func TestManyOwnersAtOnce(t *testing.T) {
	b := newBox(t, "simulated:h100x8")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			owner := fmt.Sprintf("instance-%d", i)
			for range 20 {
				names, err := b.Prepare(owner, b.uuids(i))
				if err != nil {
					t.Error(err)
					return
				}
				spec := newSpec()
				if err := b.Inject(spec, names); err != nil || !slices.Equal(visible(spec), b.uuids(i)) {
					t.Errorf("%s: %q, %v", owner, visible(spec), err)
				}
				if err := b.Release(owner); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Whatever is prepared, released and restarted in whatever order, an owner's
// container sees what was prepared last for it, and the disk has those owners.
func TestFilesAlwaysAgreeWithWhatWasPrepared(t *testing.T) {
	start := newBox(t, "simulated:h100x8")
	rapid.Check(t, func(rt *rapid.T) {
		b := box{inv: start.inv, dir: filepath.Join(start.dir, fmt.Sprint(rapid.Uint64().Draw(rt, "dir")))}.restart(t)
		defer func() { _ = os.RemoveAll(b.dir) }()
		want := map[string][]string{}
		name := rapid.StringMatching(`instance-[1-4]`)
		rt.Repeat(map[string]func(*rapid.T){
			"prepare": func(rt *rapid.T) {
				owner := name.Draw(rt, "owner")
				uuids := b.uuids(rapid.SliceOfNDistinct(rapid.IntRange(0, 7), 1, 8, rapid.ID[int]).Draw(rt, "gpus")...)
				if _, err := b.Prepare(owner, uuids); err != nil {
					rt.Fatal(err)
				}
				want[owner] = uuids
			},
			"release": func(rt *rapid.T) {
				owner := name.Draw(rt, "owner")
				if err := b.Release(owner); err != nil {
					rt.Fatal(err)
				}
				delete(want, owner)
			},
			"restart": func(*rapid.T) { b = b.restart(t) },
			"": func(rt *rapid.T) {
				owners, err := b.Owners()
				if err != nil || len(owners) != len(want) {
					rt.Fatalf("owners %v, %v; want %v", owners, err, want)
				}
				for owner, uuids := range want {
					spec := newSpec()
					if err := b.Inject(spec, []string{simulatedKind + "=" + owner}); err != nil {
						rt.Fatal(err)
					}
					if got := visible(spec); !slices.Equal(got, []string{strings.Join(uuids, ",")}) {
						rt.Fatalf("%s sees %q, want %q", owner, got, uuids)
					}
				}
			},
		})
	})
}

func FuzzAcceptedOwnerIsACDIDeviceNameAndOneFile(f *testing.F) {
	for _, seed := range []string{"instance-142", "..", "a/b", "A_9", "-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, owner string) {
		if checkOwner(owner) != nil {
			return
		}
		if err := parser.ValidateDeviceName(owner); err != nil {
			t.Fatal(err)
		}
		if filepath.Base(owner) != owner || strings.HasPrefix(owner, ".") {
			t.Fatalf("%q is not one file name", owner)
		}
	})
}

func TestSimulatedSpecDeclaresTheCDIVersionThatItNeeds(t *testing.T) {
	spec := simulatedSpec("instance-1", []nvml.GPU{{UUID: "GPU-1"}}, "/x")
	need, err := specs.MinimumRequiredVersion(&spec)
	if err != nil || need != spec.Version {
		t.Errorf("it needs %s and says %s, %v", need, spec.Version, err)
	}
}
