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

// UserTrial is to find out whether workloads can run in user namespaces on this
// machine, so that root in them is nobody on the host.
type UserTrial struct {
	DataDir, RunDir string // in which it has a folder each, for as long as it takes
	Namespace       string // of containerd, and of control groups
	ImageDir        string // containerd's
	Log             *slog.Logger
}

// Run runs something in a user namespace: on the disk of DataDir, with a small volume
// of its own. It takes a tenth of a second. The error says why workloads can't.
func (u UserTrial) Run(ctx context.Context) (err error) {
	if err := u.Clear(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Clear(context.WithoutCancel(ctx))) }()
	data, run := u.dirs()
	for _, dir := range []string{data, run} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	pool, err := u.pool()
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
	return runtime.TryUser(ctx, u.runtime(), disk, u.ImageDir)
}

// Clear removes what a trial has left, killed or not.
func (u UserTrial) Clear(ctx context.Context) error {
	data, run := u.dirs()
	_, noData := os.Stat(data)
	_, noRun := os.Stat(run)
	if errors.Is(noData, fs.ErrNotExist) && errors.Is(noRun, fs.ErrNotExist) {
		return nil
	}
	if err := runtime.ClearTrial(ctx, u.runtime()); err != nil {
		return err
	}
	pool, err := u.pool()
	if err != nil {
		return err
	}
	if err := errors.Join(pool.Unmount(ctx, trialVolume, trialUser), pool.Delete(ctx, trialVolume), pool.Close()); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(data), os.RemoveAll(run)) // nothing is mounted there any more
}

func (u UserTrial) dirs() (data, run string) {
	return filepath.Join(u.DataDir, "trial"), filepath.Join(u.RunDir, "trial")
}

func (u UserTrial) pool() (*volume.Pool, error) {
	data, run := u.dirs()
	return volume.Open(volume.Config{Dir: filepath.Join(data, "volumes"), RunDir: filepath.Join(run, "volumes")}, u.Log)
}

func (u UserTrial) runtime() runtime.Config {
	data, run := u.dirs()
	return runtime.Config{Namespace: u.Namespace, DataDir: data, RunDir: run}
}
