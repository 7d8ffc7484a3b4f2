package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecolink/agent/userns"
	"ecolink/agent/volume"
)

// newTrial is a trial in folders of its own.
func newTrial(t *testing.T) UserTrial {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	u := UserTrial{DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"), Namespace: "ecolink-trial", ImageDir: dir, Log: slog.New(slog.DiscardHandler)}
	for _, dir := range []string{u.DataDir, u.RunDir} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func TestTrialOfUserNamespacesSucceedsHereAndLeavesNothing(t *testing.T) {
	u := newTrial(t)
	for range 2 {
		began := time.Now()
		if err := u.Run(background); err != nil {
			t.Fatal(err)
		}
		t.Logf("took %s", time.Since(began))
	}
	u.wantEmpty(t)
}

// wantEmpty checks that nothing of a trial is left.
func (u UserTrial) wantEmpty(t *testing.T) {
	t.Helper()
	for _, dir := range []string{u.DataDir, u.RunDir} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s has %v, %v", dir, left, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), filepath.Dir(u.DataDir)) {
		t.Errorf("mounts are left: %v", err)
	}
}

func TestTrialOfUserNamespacesTellsWhyTheyCannotBe(t *testing.T) {
	u := newTrial(t)
	if err := os.Chmod(u.RunDir, 0o700); err != nil { // which root of a container can't enter
		t.Fatal(err)
	}
	err := u.Run(background)
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Fatalf("got %v", err)
	}
	u = newTrial(t)
	u.ImageDir = "/proc" // a file system whose owners can't be mapped
	if err := u.Run(background); err == nil || !strings.Contains(err.Error(), "map the owners of /proc") {
		t.Fatalf("got %v", err)
	}
	u.wantEmpty(t)
}

func TestTrialThatWasKilledIsClearedAway(t *testing.T) {
	u := newTrial(t)
	trialData, trialRun := u.dirs()
	maps := filepath.Join(trialRun, "maps", "trial")
	for _, dir := range []string{trialData, trialRun, filepath.Dir(maps)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	pool, err := u.pool()
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.Create(background, trialVolume, volume.MinBytes); err != nil {
		t.Fatal(err)
	}
	disk, err := pool.Mount(background, trialVolume, trialUser)
	if err != nil {
		t.Fatal(err)
	}
	user := userns.Mapping{Range: userns.TrialRange(), Path: filepath.Join(trialRun, "user"), Layer: filepath.Join(trialRun, "user.layer")}
	if err := user.Create(filepath.Join(trialRun, "net")); err != nil {
		t.Fatal(err)
	}
	mounts, err := user.OpenMounts(maps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mounts.Layer(disk); err != nil {
		t.Fatal(err)
	}
	if err := pool.Close(); err != nil { // which a kill does
		t.Fatal(err)
	}
	if err := u.Clear(background); err != nil {
		t.Fatal(err)
	}
	u.wantEmpty(t)
}
