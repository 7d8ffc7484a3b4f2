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

// tryFolders are folders that a trial may use.
func tryFolders(t *testing.T) (data, run string) {
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
	return filepath.Join(dir, "data"), filepath.Join(dir, "run")
}

func TestTrialOfUserNamespacesSucceedsHereAndLeavesNothing(t *testing.T) {
	data, run := tryFolders(t)
	for range 2 {
		began := time.Now()
		if err := TryUserNamespaces(background, data, run, "ecolink-trial", slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		t.Logf("took %s", time.Since(began))
	}
	wantEmpty(t, data, run)
}

// wantEmpty checks that nothing of a trial is left.
func wantEmpty(t *testing.T, data, run string) {
	t.Helper()
	for _, dir := range []string{data, run} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s has %v, %v", dir, left, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), filepath.Dir(data)) {
		t.Errorf("mounts are left: %v", err)
	}
}

func TestTrialOfUserNamespacesTellsWhyTheyCannotBe(t *testing.T) {
	data, run := tryFolders(t)
	if err := os.MkdirAll(run, 0o700); err != nil { // which root of a container can't enter
		t.Fatal(err)
	}
	err := TryUserNamespaces(background, data, run, "ecolink-trial", slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Fatalf("got %v", err)
	}
}

func TestTrialThatWasKilledIsClearedAway(t *testing.T) {
	data, run := tryFolders(t)
	trialData, trialRun := trialDirs(data, run)
	maps := filepath.Join(trialRun, "maps", "trial")
	for _, dir := range []string{trialData, trialRun, filepath.Dir(maps)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	pool, err := trialPool(trialData, trialRun, slog.New(slog.DiscardHandler))
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
	if err := ClearTrial(background, data, run, "ecolink-trial", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, data, run)
}
