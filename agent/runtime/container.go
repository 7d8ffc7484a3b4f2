package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"ecolink/agent/keeper/logfile"
	"ecolink/agent/userns"
)

// Status is what containerd says of a container.
type Status struct {
	// Exists says that anything of it is left, Running that its process 1 lives.
	// One that exists, does not run and has no ExitedAt has not run in this boot,
	// or nobody knows how it ended.
	Exists, Running bool
	PID             uint32
	StartedAt       time.Time // when Running
	ExitedAt        time.Time // when it has ended and that is known
	ExitCode        uint32
}

// keepLabel keeps containerd's garbage collector from a snapshot that no
// container refers to yet. Start and Remove are what looks after it.
const keepLabel = "containerd.io/gc.root"

// Start makes the container run from whatever is there of it: a running one is
// left alone, one that has ended, or that a reboot has ended, starts again on
// the file system that it had. The image is pulled if it has gone meanwhile.
//
// It speaks to containerd's services directly rather than through its client's
// Container: that spares a lease and a handful of reads, a third of the time of
// a launch.
func (r *Runtime) Start(ctx context.Context, c Container) (Status, error) {
	ctx = r.in(ctx)
	st, err := r.Status(ctx, c.ID)
	if err != nil || st.Running {
		return st, err
	}
	name, err := c.Image.recorded()
	if err != nil {
		return Status{}, err
	}
	img, err := r.keep(ctx, name)
	if errdefs.IsNotFound(err) {
		if err = r.Pull(ctx, c.Image, func(Progress) {}); err == nil {
			img, err = r.keep(ctx, name)
		}
	}
	if err != nil {
		return Status{}, err
	}
	spec, err := r.spec(ctx, c, img)
	if err != nil {
		return Status{}, err
	}
	if st.Exists {
		if err := r.clearTask(ctx, c.ID); err != nil {
			return Status{}, err
		}
	}
	rootfs, err := r.rootfs(ctx, c, img)
	if err != nil {
		return Status{}, err
	}
	if c.User != (userns.Mapping{}) {
		var done func()
		if rootfs, done, err = r.enterUser(c, spec, rootfs); err != nil {
			return Status{}, err
		}
		defer done()
	}
	if err := r.write(ctx, c, name, spec); err != nil {
		return Status{}, err
	}
	return r.run(ctx, c, rootfs)
}

// rootfs prepares the container's own layer, or finds the one that it has.
func (r *Runtime) rootfs(ctx context.Context, c Container, img imageConfig) ([]mount.Mount, error) {
	id := c.ID
	snaps := r.client.SnapshotService(snapshotter)
	label := snapshots.WithLabels(map[string]string{keepLabel: time.Now().UTC().Format(time.RFC3339)})
	rootfs, err := snaps.Prepare(ctx, id, img.chain, label)
	if errdefs.IsAlreadyExists(err) {
		rootfs, err = snaps.Mounts(ctx, id)
	}
	if err != nil {
		return nil, fmt.Errorf("container %s: prepare its file system: %w", id, err)
	}
	if c.Layer == "" {
		return rootfs, nil
	}
	if rootfs, err = writeTo(c.Layer, rootfs); err != nil {
		return nil, fmt.Errorf("container %s: prepare its file system: %w", id, err)
	}
	return rootfs, nil
}

// write creates or replaces containerd's record of the container.
func (r *Runtime) write(ctx context.Context, c Container, image string, spec *specs.Spec) error {
	packed, err := typeurl.MarshalAny(spec)
	if err != nil {
		return fmt.Errorf("container %s: %w", c.ID, err)
	}
	record := containers.Container{
		ID: c.ID, Labels: c.Labels, Image: image, Spec: packed,
		Runtime:     containers.RuntimeInfo{Name: shimName},
		Snapshotter: snapshotter, SnapshotKey: c.ID,
	}
	all := r.client.ContainerService()
	_, err = all.Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = all.Update(ctx, record, "labels", "spec", "image")
	}
	if err != nil {
		return fmt.Errorf("container %s: record it: %w", c.ID, err)
	}
	return nil
}

// run starts the shim, the log writer and process 1. It does not stop halfway when
// ctx ends: containerd would give up at once and clear away for a while longer,
// beside a Remove that finds nothing and believes to be done.
func (r *Runtime) run(ctx context.Context, c Container, rootfs []mount.Mount) (Status, error) {
	id := c.ID
	if ctx.Err() != nil {
		return Status{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	logs := logfile.Config{Dir: r.logDir(id), MaxBytes: logMaxBytes, Files: logFiles}
	uri, err := cio.LogURIGenerator("binary", r.keeper, logs.Args())
	if err != nil {
		return Status{}, err
	}
	request := &tasks.CreateTaskRequest{ContainerID: id, Stdout: uri.String(), Stderr: uri.String()}
	if request.Options, err = streamOptions(c.User.Range); err != nil {
		return Status{}, err
	}
	for _, m := range rootfs {
		request.Rootfs = append(request.Rootfs, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	created, err := r.client.TaskService().Create(ctx, request)
	if err != nil {
		return Status{}, fmt.Errorf("container %s: create its process: %w", id, errgrpc.ToNative(err))
	}
	if err := giveStreams(c.User.Range, created.Pid); err != nil {
		return Status{}, fmt.Errorf("container %s: create its process: %w", id, err)
	}
	if _, err := r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id}); err != nil {
		return Status{}, fmt.Errorf("container %s: start its process: %w", id, errgrpc.ToNative(err))
	}
	r.ends.add(id, created.Pid)
	return Status{Exists: true, Running: true, PID: created.Pid, StartedAt: time.Now()}, nil
}

// Status asks what is there of a container.
func (r *Runtime) Status(ctx context.Context, id string) (Status, error) {
	ctx = r.in(ctx)
	got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err == nil {
		return statusOf(id, got.Process)
	}
	if err := errgrpc.ToNative(err); !errdefs.IsNotFound(err) {
		return Status{}, fmt.Errorf("container %s: look at its process: %w", id, err)
	}
	_, err = r.client.ContainerService().Get(ctx, id)
	switch {
	case errdefs.IsNotFound(err):
		return Status{}, nil
	case err != nil:
		return Status{}, fmt.Errorf("container %s: %w", id, err)
	}
	return Status{Exists: true}, nil
}

func statusOf(id string, p *tasktypes.Process) (Status, error) {
	st := Status{Exists: true, PID: p.Pid}
	switch p.Status {
	case tasktypes.Status_UNKNOWN:
		// Not an end: containerd says so, without an error, when the shim has not
		// answered it in two seconds (services/tasks, getProcessState).
		return Status{}, fmt.Errorf("container %s: containerd can't tell whether it runs: its shim does not answer", id)
	case tasktypes.Status_RUNNING, tasktypes.Status_PAUSED, tasktypes.Status_PAUSING:
		st.Running = true
		st.StartedAt = startOf(p.Pid)
	case tasktypes.Status_STOPPED:
		st.ExitCode = p.ExitStatus
		if p.ExitedAt != nil {
			st.ExitedAt = p.ExitedAt.AsTime()
		}
	}
	return st, nil
}

// Stop ends a container, with SIGTERM and after grace SIGKILL, and keeps the file
// system and the logs that Start goes on with. One that is not there is fine.
func (r *Runtime) Stop(ctx context.Context, id string, grace time.Duration) error {
	ctx = r.in(ctx)
	if err := r.end(ctx, id, grace); err != nil {
		return err
	}
	return r.clearTask(ctx, id)
}

// Remove ends a container, with SIGTERM and after grace SIGKILL, and leaves
// nothing of it: process, file system, logs. One that is not there is fine.
func (r *Runtime) Remove(ctx context.Context, id string, grace time.Duration) error {
	ctx = r.in(ctx)
	if err := r.Stop(ctx, id, grace); err != nil {
		return err
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("container %s: remove its record: %w", id, err)
	}
	if err := r.client.SnapshotService(snapshotter).Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("container %s: remove its file system: %w", id, err)
	}
	if err := errors.Join(os.RemoveAll(r.containerDir(id)), os.RemoveAll(r.etcDir(id))); err != nil {
		return fmt.Errorf("container %s: %w", id, err)
	}
	return nil
}

// end asks the container to stop and waits until it has.
func (r *Runtime) end(ctx context.Context, id string, grace time.Duration) error {
	st, err := r.Status(ctx, id)
	if err != nil || !st.Running {
		return err
	}
	for _, step := range []struct {
		signal  syscall.Signal
		patient time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, killTimeout}} {
		if step.patient <= 0 {
			continue
		}
		ended, err := r.signal(ctx, id, step.signal, step.patient)
		if err != nil || ended {
			return err
		}
	}
	return fmt.Errorf("container %s: its processes are still there %s after SIGKILL: a device or file system may hang", id, killTimeout)
}

// signal sends a signal to process 1 and waits for its end, at most for so long.
func (r *Runtime) signal(ctx context.Context, id string, s syscall.Signal, patient time.Duration) (ended bool, err error) {
	waiting, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	exited := make(chan error, 1)
	go func() {
		_, err := r.client.TaskService().Wait(waiting, &tasks.WaitRequest{ContainerID: id})
		exited <- errgrpc.ToNative(err)
	}()
	_, err = r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(s), All: s == syscall.SIGKILL})
	if err := errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return false, fmt.Errorf("container %s: send it %s: %w", id, s, err)
	}
	err = <-exited
	switch {
	case err == nil || errdefs.IsNotFound(err):
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case waiting.Err() != nil:
		return false, nil
	default:
		return false, fmt.Errorf("container %s: wait for its end: %w", id, err)
	}
}

// clearTask removes what a process 1 that has ended, or never began, leaves in
// containerd.
func (r *Runtime) clearTask(ctx context.Context, id string) error {
	_, err := r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	err = errgrpc.ToNative(err)
	if errdefs.IsFailedPrecondition(err) { // created, and never started
		if _, err := r.signal(ctx, id, syscall.SIGKILL, killTimeout); err != nil {
			return err
		}
		_, err = r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
		err = errgrpc.ToNative(err)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("container %s: remove its process: %w", id, err)
	}
	return nil
}

// List names every container of which anything is left.
func (r *Runtime) List(ctx context.Context) ([]string, error) {
	ctx = r.in(ctx)
	all, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	found := map[string]bool{}
	for _, c := range all {
		found[c.ID] = true
	}
	// A crash between the two leaves a file system without a container.
	err = r.client.SnapshotService(snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindActive && info.Labels[keepLabel] != "" {
			found[info.Name] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	for _, dir := range []string{r.containerDir(""), r.etcDir("")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		for _, e := range entries {
			found[e.Name()] = true
		}
	}
	return sortedNames(found), nil
}

func sortedNames(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for name := range set {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (r *Runtime) logDir(id string) string { return filepath.Join(r.containerDir(id), "log") }
