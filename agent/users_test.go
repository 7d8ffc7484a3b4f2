package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
