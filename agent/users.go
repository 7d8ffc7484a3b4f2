package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"ecolink/agent/runtime"
	"ecolink/agent/volume"
)

// TryUserNamespaces finds out whether workloads can run in user namespaces on this
// machine, so that root in them is nobody on the host, by running something in one:
// on the disk of dataDir, in a folder of runDir, with a small volume of its own. It
// takes some tenths of a second. The error says why they can't.
func TryUserNamespaces(ctx context.Context, dataDir, runDir, namespace string, log *slog.Logger) (err error) {
	data, run := filepath.Join(dataDir, "trial"), filepath.Join(runDir, "trial")
	for _, dir := range []string{data, run} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	const id, user = "disk", "trial"
	pool, err := volume.Open(volume.Config{Dir: filepath.Join(data, "volumes"), RunDir: filepath.Join(run, "volumes")}, log)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, pool.Unmount(context.WithoutCancel(ctx), id, user), pool.Delete(context.WithoutCancel(ctx), id), pool.Close())
		if err == nil {
			err = errors.Join(os.RemoveAll(data), os.RemoveAll(run))
		}
	}()
	if err := pool.Create(ctx, id, volume.MinBytes); err != nil {
		return fmt.Errorf("make a disk to try it with: %w", err)
	}
	disk, err := pool.Mount(ctx, id, user)
	if err != nil {
		return fmt.Errorf("make a disk to try it with: %w", err)
	}
	return runtime.TryUser(ctx, runtime.Config{Namespace: namespace, DataDir: data, RunDir: run}, disk)
}
