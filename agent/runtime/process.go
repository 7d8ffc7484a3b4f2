package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// removeWait bounds how long a process that was killed may take to go.
const removeWait = 5 * time.Second

// shells in the order in which a terminal prefers them.
var shells = []string{"/bin/bash", "/usr/bin/bash", "/bin/zsh", "/bin/ash", "/bin/sh", "/usr/bin/sh"}

// StartShell starts a login shell inside a running container, as root, under a
// name that EndProcess knows it by, and gives its process id. It makes a PTY and
// waits until host, started here with these arguments, has taken that over (package
// agent/keeper/session). errdefs.ErrAlreadyExists when the name is taken. An image
// without a shell is a permanent error. Once it has begun it does not stop halfway
// when ctx ends: a shell that containerd is just starting can't be ended yet, and
// nobody would come for it later.
func (r *Runtime) StartShell(ctx context.Context, id, name string, host map[string]string) (pid int, err error) {
	ctx = r.in(ctx)
	process, first, err := r.process(ctx, id)
	if err != nil {
		return 0, err
	}
	shell, ok := findShell(first)
	if !ok {
		return 0, refuse("the image has no shell to open a terminal with (looked for "+strings.Join(shells, ", ")+"): launch one that has", nil)
	}
	process.Args = []string{initPath, "shell", shell, "-l"}
	process.Env = append(process.Env, "TERM=xterm-256color", "SHELL="+shell)
	if process.Cwd == "/" {
		process.Cwd = home(first)
	}
	uri, err := cio.LogURIGenerator("binary", r.keeper, host)
	if err != nil {
		return 0, err
	}
	packed, err := typeurl.MarshalAnyToProto(process)
	if err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	all := r.client.TaskService()
	_, err = all.Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: id, ExecID: name, Stdout: uri.String(), Stderr: uri.String(), Spec: packed,
	})
	if errdefs.IsAlreadyExists(errgrpc.ToNative(err)) {
		return 0, fmt.Errorf("container %s: terminal %s: %w", id, name, errgrpc.ToNative(err))
	}
	var started *tasks.StartResponse
	if err == nil {
		started, err = all.Start(ctx, &tasks.StartRequest{ContainerID: id, ExecID: name})
	}
	if err != nil {
		ended := r.EndProcess(context.WithoutCancel(ctx), id, name)
		return 0, errors.Join(fmt.Errorf("container %s: start terminal %s: %w", id, name, errgrpc.ToNative(err)), ended)
	}
	return int(started.Pid), nil
}

// Resize sets the window of a shell.
func (r *Runtime) Resize(ctx context.Context, id, name string, cols, rows uint16) error {
	_, err := r.client.TaskService().ResizePty(r.in(ctx), &tasks.ResizePtyRequest{
		ContainerID: id, ExecID: name, Width: uint32(cols), Height: uint32(rows),
	})
	if err != nil {
		return fmt.Errorf("container %s: resize terminal %s: %w", id, name, errgrpc.ToNative(err))
	}
	return nil
}

// EndProcess ends a process that was started beside process 1 and removes what
// containerd knows of it. One that is not there is fine.
func (r *Runtime) EndProcess(ctx context.Context, id, name string) error {
	ctx, cancel := context.WithTimeout(r.in(ctx), removeWait)
	defer cancel()
	all := r.client.TaskService()
	_, err := all.Kill(ctx, &tasks.KillRequest{ContainerID: id, ExecID: name, Signal: uint32(syscall.SIGKILL)})
	if err := errgrpc.ToNative(err); err == nil {
		_, _ = all.Wait(ctx, &tasks.WaitRequest{ContainerID: id, ExecID: name}) // Delete tells
	}
	_, err = all.DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: id, ExecID: name})
	if err := errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("container %s: remove process %s: %w", id, name, err)
	}
	return nil
}

// Exec runs a command in a running container, without a PTY, and gives its exit
// code. When ctx ends the command is killed. A command that does not exist is a
// permanent error.
func (r *Runtime) Exec(ctx context.Context, id, name string, argv []string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	ctx = r.in(ctx)
	process, _, err := r.process(ctx, id)
	if err != nil {
		return 0, err
	}
	process.Args = argv
	container, err := r.client.LoadContainer(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("container %s: %w", id, err)
	}
	task, err := container.Task(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("container %s: %w", id, err)
	}
	var feed *endNotifier
	var in io.Reader
	if stdin != nil {
		feed = &endNotifier{Reader: stdin, ended: make(chan struct{})}
		in = feed
	}
	// It outlives ctx by as much as killing it takes.
	alive := context.WithoutCancel(ctx)
	starting, cancel := context.WithTimeout(alive, startTimeout)
	defer cancel()
	p, err := task.Exec(starting, name, process, cio.NewCreator(cio.WithStreams(in, stdout, stderr), cio.WithFIFODir(r.cfg.fifoDir())))
	if err != nil {
		return 0, fmt.Errorf("container %s: run %s: %w", id, argv[0], err)
	}
	defer r.EndProcess(alive, id, name)
	return r.attend(ctx, starting, p, argv[0], feed)
}

// attend starts an exec's process and stays with it to its end.
func (r *Runtime) attend(ctx, starting context.Context, p client.Process, command string, feed *endNotifier) (int, error) {
	alive := context.WithoutCancel(ctx)
	exited, err := p.Wait(alive)
	if err != nil {
		return 0, err
	}
	if err := p.Start(starting); err != nil {
		p.IO().Cancel()
		if text := err.Error(); strings.Contains(text, "executable file not found") || strings.Contains(text, "no such file or directory") {
			return 0, refuse(fmt.Sprintf("there is no command %q in this image", command), err)
		}
		return 0, fmt.Errorf("run %s: %w", command, err)
	}
	var ended <-chan struct{}
	if feed != nil {
		ended = feed.ended
	}
	for {
		select {
		case <-ended:
			ended = nil
			_ = p.CloseIO(alive, client.WithStdinCloser) // it may have exited: the status tells
		case st := <-exited:
			code, _, err := st.Result()
			return int(code), errors.Join(err, drain(ctx, p.IO()))
		case <-ctx.Done():
			p.IO().Cancel()
			return 0, errors.Join(ctx.Err(), p.IO().Close()) // which removes the FIFOs
		}
	}
}

// drain waits until all output has been passed on, as ssh does: a process that
// the command left in the background may still hold it open, and a slow reader
// gets everything.
func drain(ctx context.Context, streams cio.IO) error {
	done := make(chan struct{})
	go func() {
		streams.Wait()
		close(done)
	}()
	select {
	case <-done:
		return streams.Close() // ends the copying of input, which Wait does not wait for
	case <-ctx.Done():
		streams.Cancel()
		return errors.Join(ctx.Err(), streams.Close())
	}
}

// endNotifier tells when its reader has come to the end.
type endNotifier struct {
	io.Reader
	once  sync.Once
	ended chan struct{}
}

func (e *endNotifier) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err != nil {
		e.once.Do(func() { close(e.ended) })
	}
	return n, err
}

// process is a process to start beside a container's process 1: same
// environment, user and rights.
func (r *Runtime) process(ctx context.Context, id string) (*specs.Process, uint32, error) {
	got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return nil, 0, fmt.Errorf("container %s: %w", id, errgrpc.ToNative(err))
	}
	if got.Process.Status != tasktypes.Status_RUNNING {
		return nil, 0, fmt.Errorf("container %s does not run", id)
	}
	record, err := r.client.ContainerService().Get(ctx, id)
	if err != nil {
		return nil, 0, fmt.Errorf("container %s: %w", id, err)
	}
	v, err := typeurl.UnmarshalAny(record.Spec)
	if err != nil {
		return nil, 0, fmt.Errorf("container %s: read its spec: %w", id, err)
	}
	spec, ok := v.(*specs.Spec)
	if !ok || spec.Process == nil {
		return nil, 0, fmt.Errorf("container %s: its spec has no process", id)
	}
	return spec.Process, got.Process.Pid, nil
}

// findShell looks for a shell in a container's file system as the container sees
// it: links are followed inside of it.
func findShell(pid uint32) (string, bool) {
	root, err := openRoot(pid)
	if err != nil {
		return "", false
	}
	defer unix.Close(root)
	for _, shell := range shells {
		if st, ok := statIn(root, shell); ok && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0 {
			return shell, true
		}
	}
	return "", false
}

// home is root's home directory, if the image has it.
func home(pid uint32) string {
	root, err := openRoot(pid)
	if err != nil {
		return "/"
	}
	defer unix.Close(root)
	if st, ok := statIn(root, "/root"); ok && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "/root"
	}
	return "/"
}

func openRoot(pid uint32) (int, error) {
	return unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func statIn(root int, name string) (st unix.Stat_t, ok bool) {
	fd, err := unix.Openat2(root, path.Clean(name), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return st, false
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st) == nil
}
