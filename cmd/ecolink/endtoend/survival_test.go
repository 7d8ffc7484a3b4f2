package endtoend

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// namespace is the box's in containerd and among the control groups.
func (b *box) namespace() string {
	sum := sha256.Sum256([]byte(filepath.Join(b.dir, "data")))
	return "ecolink-" + hex.EncodeToString(sum[:4])
}

// killContainerd does to containerd what the OOM killer might.
func (b *box) killContainerd() {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.dir, "run", "containerd", "containerd.pid"))
	if err != nil {
		b.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		b.t.Fatal(err)
	}
}

// examination is what `ecolink doctor -o json` prints.
type examination struct {
	Findings, Mended []finding
	UserNamespaces   string `json:"user_namespaces"`
}

type finding struct {
	Kind, Name, Why string
	Where           []string
	Minor           bool
}

// doctor runs `ecolink doctor`; code is its exit code.
func (b *box) doctor(args ...string) (x examination, code int) {
	b.t.Helper()
	all := append([]string{"doctor", "-o", "json", "--config", os.DevNull, "--bridge", fmt.Sprintf("ecoe2e%d", b.number),
		"--subnet", fmt.Sprintf("10.116.%d.0/24", b.number), "--gpus", fmt.Sprintf("simulated:h100x%d", b.gpus), "--storage-reserve-gb", "0"}, b.place()...)
	cmd := exec.Command(binary, append(all, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if jsonErr := json.Unmarshal(out, &x); jsonErr != nil {
		b.t.Fatalf("doctor: %v: %s%s", err, out, errs.String())
	}
	// Nobody keeps the clock of many a machine for tests.
	x.Findings = slices.DeleteFunc(x.Findings, func(f finding) bool { return f.Minor })
	return x, cmd.ProcessState.ExitCode()
}

func (x examination) has(kind, name string) bool {
	for _, f := range x.Findings {
		if f.Kind == kind && f.Name == name {
			return true
		}
	}
	return false
}

func (b *box) exec(instance, script string) string {
	b.t.Helper()
	return b.cli("instance", "exec", instance, "--", "sh", "-c", script)
}

func TestKilledContainerdComesBackAndInstancesTerminalsAndLogsGoOn(t *testing.T) {
	b := newBox(t, 2)
	request := b.request("worker")
	request["command"] = []string{"sh", "-c", "n=0; while :; do echo line $n; n=$((n+1)); sleep 0.2; done"}
	var i instance
	if f := b.api(http.MethodPost, "/v1/gpu-instances", request, &i); f != nil {
		t.Fatalf("%+v", f)
	}
	i = b.await(i.ID, "running")
	term := b.attach(i.ID, -1)
	typeLine(t, term, "here=kept; echo answer=$((6*7))", "answer=42\r\n")

	b.killContainerd()
	typeLine(t, term, "echo $here again=$((6*8))", "kept again=48\r\n") // nobody waits for containerd
	b.eventually("containerd is back", func() bool {
		cmd := exec.Command(binary, "instance", "exec", "worker", "--", "echo", "back")
		cmd.Env = append(os.Environ(), "ECOLINK_URL="+b.url, "ECOLINK_API_KEY="+b.key)
		out, err := cmd.Output()
		return err == nil && string(out) == "back\n"
	})
	lines := b.cli("instance", "logs", "worker", "--tail", "1")
	b.eventually("the log goes on", func() bool { return b.cli("instance", "logs", "worker", "--tail", "1") != lines })
	after := b.get(i.ID)
	if after.State != "running" || !after.RunningSince.Equal(i.RunningSince) {
		t.Errorf("it was %+v and is %+v", i, after)
	}
	b.await(b.launch("another").ID, "running")
	b.killContainerd()
	b.kill() // both at once
	b.start()
	b.eventually("it works again", func() bool { return b.get(i.ID).State == "running" })
	typeLine(t, b.attach(i.ID, -1), "echo $here third=$((6*9))", "kept third=54\r\n")
	if x, code := b.doctor(); code != 0 {
		t.Errorf("the doctor finds %+v", x.Findings)
	}
}

// The box boots with nothing of what the kernel had: processes, mounts, loop
// devices, networks and /run are gone.
func TestInstancesWithPaidTimeStartAgainAfterARebootOnTheirFilesAndDrives(t *testing.T) {
	bootID := ""
	b := newStorageBoxWith(t, 1, func(b *box) {
		// In a mount namespace of its own, it can be told of another boot.
		bootID = filepath.Join(b.dir, "boot_id")
		if err := os.WriteFile(bootID, []byte("11111111-1111-4111-8111-111111111111\n"), 0o444); err != nil {
			t.Fatal(err)
		}
		b.wrap = []string{"unshare", "--mount", "--propagation", "private", "sh", "-c",
			`mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`, bootID}
	})
	var d, shared drive
	for path, made := range map[string]*drive{"/v1/drives": &d, "/v1/shared-filesystems": &shared} {
		if f := b.api(http.MethodPost, path, map[string]any{"name": filepath.Base(path), "size_gb": 1}, made); f != nil {
			t.Fatalf("%+v", f)
		}
		b.awaitDrive(fmt.Sprintf("%s/%d", path, made.ID), "available", in("available"))
	}
	i := b.launchWith("trainer", map[string]any{
		"drives":             []any{map[string]any{"id": d.ID, "path": "/data"}},
		"shared_filesystems": []any{map[string]any{"id": shared.ID, "path": "/models"}},
	})
	b.exec("trainer", "echo precious > /root/file; echo weights > /models/file; sync")
	sum := b.exec("trainer", "dd if=/dev/urandom of=/data/checkpoint bs=1M count=16 conv=fsync 2>/dev/null && sha256sum </data/checkpoint")
	before := b.exec("trainer", "cat /proc/1/stat | cut -d' ' -f22")

	b.reboot()
	b.eventually("the kernel has no loop device of the box's", func() bool { return len(b.loops()) == 0 })
	if err := os.WriteFile(bootID, []byte("22222222-2222-4222-8222-222222222222\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.eventually("it runs again", func() bool {
		now := b.get(i.ID)
		return now.State == "running" && now.RunningSince.After(i.RunningSince)
	})
	if got := b.exec("trainer", "cat /root/file; cat /proc/1/stat | cut -d' ' -f22"); !strings.HasPrefix(got, "precious\n") || strings.HasSuffix(got, before) {
		t.Errorf("after the reboot: %q; before: %q", got, before)
	}
	if got := b.exec("trainer", "cat /models/file; sha256sum </data/checkpoint"); got != "weights\n"+sum {
		t.Errorf("on the drives after the reboot: %q; before: %q", got, sum)
	}
	if got := b.driveAt(fmt.Sprintf("/v1/drives/%d", d.ID)); got.State != "attached" || len(got.Attachments) != 1 || got.Attachments[0].InstanceID != i.ID {
		t.Errorf("after the reboot: %+v", got)
	}
	b.exec("trainer", "echo more >> /data/checkpoint && sync")
	typeLine(t, b.attach(i.ID, -1), "echo answer=$((6*7))", "answer=42\r\n")
	b.terminate(i.ID)
	b.awaitDrive(fmt.Sprintf("/v1/drives/%d", d.ID), "available", in("available"))
}

// loops are the loop devices of the box's images.
func (b *box) loops() (found []string) {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(raw), b.dir) {
			found = append(found, f)
		}
	}
	return found
}

// reboot ends everything of the box's at once, and removes what a kernel forgets.
func (b *box) reboot() {
	b.t.Helper()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", b.serve.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	for round := 0; ; round++ {
		alive := 0
		all, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			b.t.Fatal(err)
		}
		for _, dir := range all {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil {
				continue
			}
			ns, _ := os.Readlink(filepath.Join(dir, "ns", "mnt"))
			group, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
			stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
			dead := strings.Contains(string(stat), ") Z ")
			if !dead && (ns == own || strings.Contains(string(group), "/"+b.namespace()+"/")) {
				alive++
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if alive == 0 {
			break
		}
		if round > 200 {
			b.t.Fatalf("%d processes will not go", alive)
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.serve.Wait()
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + b.namespace() + "/*")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, g := range groups {
		_ = os.Remove(g)
	}
	bridge := fmt.Sprintf("ecoe2e%d", b.number)
	for _, line := range [][]string{{"ip", "link", "delete", bridge}, {"nft", "delete", "table", "inet", bridge}, {"nft", "delete", "table", "bridge", bridge}} {
		_ = exec.Command(line[0], line[1:]...).Run() // some have no such thing
	}
	if err := os.RemoveAll(filepath.Join(b.dir, "run")); err != nil {
		b.t.Fatal(err)
	}
}

func TestFullDiskRefusesLaunchesAndLeavesWhatRunsAlone(t *testing.T) {
	b := newBoxWith(t, 3, func(b *box) {
		image, data := filepath.Join(b.dir, "disk.img"), filepath.Join(b.dir, "data")
		b.flags = []string{"--scratch-per-gpu", "100MiB", "--storage-reserve-gb", "0", "--warm-scratch", "0"}
		for _, line := range [][]string{
			{"truncate", "-s", "6G", image}, {"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mkdir", "-p", data}, {"mount", "-o", "loop", image, data},
		} {
			if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s", line, err, out)
			}
		}
		b.unmountAtEnd = data
		t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) }) // if the server did not come up
	})
	i := b.await(b.launch("a").ID, "running")
	b.exec("a", "echo before > /root/file")

	fill := filepath.Join(b.dir, "data", "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for size := int64(4 << 30); size >= 4096; { // whatever is free, in ever smaller pieces
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Fallocate(int(f.Fd()), 0, st.Size(), size); err != nil {
			size /= 2
		}
	}
	f.Sync()
	f.Close()

	var second instance
	if refused := b.api(http.MethodPost, "/v1/gpu-instances", b.request("b"), &second); refused == nil {
		over := b.awaitOver(second.ID)
		if over.State != "failed" || !strings.Contains(over.Problem, "disk") {
			t.Errorf("with a full disk: %+v", over)
		}
	} else if refused.Status != http.StatusServiceUnavailable && refused.Status != http.StatusInsufficientStorage {
		t.Errorf("with a full disk: %+v", refused)
	}
	if got := b.exec("a", "echo more >> /root/file && cat /root/file"); got != "before\nmore\n" { // its own disk has room
		t.Errorf("what runs says %q", got)
	}
	if now := b.get(i.ID); now.State != "running" || !now.RunningSince.Equal(i.RunningSince) {
		t.Errorf("%+v", now)
	}
	if out := b.cli(append([]string{"ledger", "verify"}, b.place()...)...); !strings.Contains(out, "the books agree") {
		t.Errorf("ledger verify: %s", out)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	b.await(b.launch("c").ID, "running")
}

// awaitOver waits until an instance has ended in one way or another.
func (b *box) awaitOver(id int64) (i instance) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("instance %d is over", id), func() bool {
		i = b.get(id)
		return i.State == "failed" || i.State == "terminated"
	})
	return i
}

func TestDoctorFindsWhatIsLeftOverAndRepairsItWhenAsked(t *testing.T) {
	b := newBox(t, 1)
	i := b.await(b.launch("a").ID, "running")
	if x, code := b.doctor(); code != 0 || len(x.Findings) > 0 {
		t.Fatalf("on a healthy box: exit %d, %+v", code, x.Findings)
	}
	log := filepath.Join(b.dir, "data", "containers", "instance-77", "log")
	image := filepath.Join(b.dir, "data", "volumes", "cloud-drive-88")
	for _, dir := range []string{log, image} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(image, "image"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	x, code := b.doctor()
	if code != 1 || len(x.Findings) != 2 || !x.has("workload", "instance-77") || !x.has("volume", "cloud-drive-88") {
		t.Fatalf("exit %d, %+v", code, x.Findings)
	}
	x, code = b.doctor("--repair") // nobody is there to be asked about the image
	if code != 1 || len(x.Mended) != 1 || !x.has("volume", "cloud-drive-88") || len(x.Findings) != 1 {
		t.Fatalf("exit %d, %+v", code, x)
	}
	if x, code = b.doctor("--repair", "--yes"); code != 0 || len(x.Mended) != 1 {
		t.Fatalf("exit %d, %+v", code, x)
	}
	for _, dir := range []string{log, image} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}

	// Without EcoLink: what it had prepared is nobody's.
	b.kill()
	if err := os.MkdirAll(log, 0o700); err != nil {
		t.Fatal(err)
	}
	x, code = b.doctor()
	if code != 1 || !x.has("workload", "instance-77") || x.has("workload", i.workload()) {
		t.Fatalf("exit %d, %+v", code, x.Findings)
	}
	if x, code = b.doctor("--repair"); code != 0 || len(x.Mended) == 0 {
		t.Fatalf("exit %d, %+v", code, x)
	}
	b.start()
	if got := b.exec("a", "echo alive"); got != "alive\n" {
		t.Errorf("the instance says %q", got)
	}
	if now := b.get(i.ID); !now.RunningSince.Equal(i.RunningSince) {
		t.Errorf("%+v", now)
	}
}

func (i instance) workload() string { return fmt.Sprintf("instance-%d", i.ID) }

func TestUserIsToldWhatAnInstanceHasAndHowItsCommandEnded(t *testing.T) {
	b := newBoxWith(t, 2, func(b *box) {
		b.flags = []string{"--cpus-per-gpu", "1.5", "--memory-per-gpu", "96MiB", "--scratch-per-gpu", "200MiB", "--warm-scratch", "1"}
	})
	request := b.request("hog")
	request["gpu_count"] = 2
	var quote struct {
		Resources struct {
			CPUs         float64 `json:"cpus"`
			MemoryBytes  int64   `json:"memory_bytes"`
			ScratchBytes int64   `json:"scratch_bytes"`
		} `json:"resources"`
	}
	if f := b.api(http.MethodPost, "/v1/gpu-instances?dry_run=true", request, &quote); f != nil {
		t.Fatalf("%+v", f)
	}
	if r := quote.Resources; r.CPUs != 3 || r.MemoryBytes != 192<<20 || r.ScratchBytes != 400<<20 {
		t.Errorf("the quote says %+v", r)
	}
	request["command"] = []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=400M", "count=1"}
	var i struct {
		instance
		Notices []string `json:"notices"`
	}
	if f := b.api(http.MethodPost, "/v1/gpu-instances", request, &i); f != nil {
		t.Fatalf("%+v", f)
	}
	b.await(i.ID, "running")
	b.eventually("it is told", func() bool {
		if f := b.api(http.MethodGet, fmt.Sprintf("/v1/gpu-instances/%d", i.ID), nil, &i); f != nil {
			t.Fatalf("%+v", f)
		}
		return len(i.Notices) == 2
	})
	const want = "The start command was killed: out of memory (limit 192 MiB). The instance goes on without it."
	if i.Notices[0] != want || i.State != "running" {
		t.Errorf("%s: %q", i.State, i.Notices)
	}
	out := b.cli("instance", "show", "hog")
	if !strings.Contains(out, want) || !strings.Contains(out, "3 CPUs, 192 MiB of memory, 400 MiB of scratch disk") {
		t.Errorf("the CLI shows %s", out)
	}
	if got := b.exec("hog", "df -m / | awk 'NR==2{print ($2 > 300 && $2 <= 400) ? \"sized\" : $2}'"); got != "sized\n" {
		t.Errorf("its disk: %q", got)
	}
}
