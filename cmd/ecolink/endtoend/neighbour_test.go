package endtoend

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A demonstration beside the real thing: both have an instance 1.
func TestTwoBoxesOnOneMachineDoNotTouchEachOthersInstances(t *testing.T) {
	first, second := newBox(t, 1), newBox(t, 1)
	one := first.await(first.launch("one").ID, "running")
	two := second.await(second.launch("two").ID, "running")
	if one.ID != two.ID {
		t.Fatalf("they are %d and %d", one.ID, two.ID)
	}
	second.cli("instance", "terminate", "two")
	second.await(two.ID, "terminated")
	if got := first.cli("instance", "exec", "one", "--", "hostname"); got != "one\n" {
		t.Fatalf("got %q", got)
	}
}

// Its containerd would be taken over, and stopped with the second.
func TestSecondEcoLinkInOneRunFolderIsRefusedAndDisturbsNothing(t *testing.T) {
	b := newBox(t, 1)
	i := b.await(b.launch("trainer").ID, "running")
	pidFile := filepath.Join(b.dir, "run", "containerd", "containerd.pid")
	before, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	second := exec.CommandContext(ctx, binary, "serve", "--config", os.DevNull, "--listen", "127.0.0.1:0", "--containerd", "embedded",
		"--gpus", "simulated:h100x1", "--bridge", "ecoe2eother", "--subnet", "10.116.250.0/24",
		"--data-dir", filepath.Join(b.dir, "other"), "--run-dir", filepath.Join(b.dir, "run"))
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another EcoLink runs with --run-dir") {
		t.Errorf("%v: %s", err, out)
	}
	if after, err := os.ReadFile(pidFile); err != nil || string(after) != string(before) {
		t.Errorf("containerd was process %s and is %s: %v", before, after, err)
	}
	if got := b.cli("instance", "exec", "trainer", "--", "hostname"); got != "trainer\n" {
		t.Errorf("got %q", got)
	}
	b.await(i.ID, "running")
}
