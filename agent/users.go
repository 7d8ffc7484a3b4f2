package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"ecolink/agent/runtime"
	"ecolink/agent/volume"
)

// The trial's volume and its user.
const trialVolume, trialUser = "disk", "trial"

// TryUserNamespaces finds out whether workloads can run in user namespaces on this
// machine, so that root in them is nobody on the host, by running something in one:
// on the disk of dataDir, in a folder of runDir, with a small volume of its own. It
// takes some tenths of a second. The error says why they can't.
func TryUserNamespaces(ctx context.Context, dataDir, runDir, namespace string, log *slog.Logger) (err error) {
	if err := ClearTrial(ctx, dataDir, runDir, namespace, log); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, ClearTrial(context.WithoutCancel(ctx), dataDir, runDir, namespace, log))
	}()
	data, run := trialDirs(dataDir, runDir)
	for _, dir := range []string{data, run} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	pool, err := trialPool(data, run, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	if err := pool.Create(ctx, trialVolume, volume.MinBytes); err != nil {
		return fmt.Errorf("make a disk to try it with: %w", err)
	}
	disk, err := pool.Mount(ctx, trialVolume, trialUser)
	if err != nil {
		return fmt.Errorf("make a disk to try it with: %w", err)
	}
	return runtime.TryUser(ctx, runtime.Config{Namespace: namespace, DataDir: data, RunDir: run}, disk)
}

// ClearTrial removes what a trial has left, killed or not.
func ClearTrial(ctx context.Context, dataDir, runDir, namespace string, log *slog.Logger) error {
	data, run := trialDirs(dataDir, runDir)
	_, noData := os.Stat(data)
	_, noRun := os.Stat(run)
	if errors.Is(noData, fs.ErrNotExist) && errors.Is(noRun, fs.ErrNotExist) {
		return nil
	}
	if err := runtime.ClearTrial(ctx, runtime.Config{Namespace: namespace, DataDir: data, RunDir: run}); err != nil {
		return err
	}
	pool, err := trialPool(data, run, log)
	if err != nil {
		return err
	}
	if err := errors.Join(pool.Unmount(ctx, trialVolume, trialUser), pool.Delete(ctx, trialVolume), pool.Close()); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(data), os.RemoveAll(run)) // nothing is mounted there any more
}

func trialDirs(dataDir, runDir string) (data, run string) {
	return filepath.Join(dataDir, "trial"), filepath.Join(runDir, "trial")
}

func trialPool(data, run string, log *slog.Logger) (*volume.Pool, error) {
	return volume.Open(volume.Config{Dir: filepath.Join(data, "volumes"), RunDir: filepath.Join(run, "volumes")}, log)
}
