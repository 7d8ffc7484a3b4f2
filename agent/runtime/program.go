package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// commandPrefix begins the name of every process that lives no longer than who
// waits for it.
const commandPrefix = "exec-"

// hangUpGrace is what a program has between SIGHUP and SIGKILL when nobody waits
// for it any more.
const hangUpGrace = 2 * time.Second

// Program is a process to run beside a container's process 1, as root, with the
// container's environment and in root's home unless the image names a directory.
type Program struct {
	// Argv is the program and its arguments. If it is empty, Line is run by the
	// image's shell, which without one reads commands from its input.
	Argv []string
	Line string
	Env  []string // NAME=value, added to the container's
	// Cols and Rows are the window of the PTY that it has; 0 for none. With one,
	// what it writes comes out of Stdout, and Stderr is not used.
	Cols, Rows     uint16
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Process is a program that runs. Close must be called; the others may be called
// from any goroutine until then.
type Process struct {
	runtime   *Runtime
	container string
	name      string
	process   client.Process
	exited    <-chan client.ExitStatus
	feed      *endNotifier // nil with a PTY, whose end of input is a key
	once      sync.Once
}

// StartProgram starts a program in a running container. One that does not exist
// is a permanent error.
func (r *Runtime) StartProgram(ctx context.Context, id string, p Program) (_ *Process, err error) {
	ctx = r.in(ctx)
	spec, err := r.programSpec(ctx, id, p)
	if err != nil {
		return nil, err
	}
	container, err := r.client.LoadContainer(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	task, err := container.Task(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	var unique [8]byte
	rand.Read(unique[:])
	run := &Process{runtime: r, container: id, name: commandPrefix + hex.EncodeToString(unique[:])}
	in, streams := p.Stdin, []cio.Opt{cio.WithFIFODir(r.cfg.fifoDir())}
	if spec.Terminal {
		streams = append(streams, cio.WithTerminal, cio.WithStreams(in, p.Stdout, nil))
	} else {
		if in != nil {
			run.feed = &endNotifier{Reader: in, ended: make(chan struct{})}
			in = run.feed
		}
		streams = append(streams, cio.WithStreams(in, p.Stdout, p.Stderr))
	}
	// Once it has begun it does not stop halfway: what containerd is just starting
	// can't be ended yet.
	alive, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if run.process, err = task.Exec(alive, run.name, spec, cio.NewCreator(streams...)); err != nil {
		return nil, fmt.Errorf("container %s: run %s: %w", id, spec.Args[0], err)
	}
	if err := run.start(alive, spec.Args[0]); err != nil {
		return nil, errors.Join(err, r.EndProcess(context.WithoutCancel(ctx), id, run.name))
	}
	return run, nil
}

func (p *Process) start(ctx context.Context, command string) (err error) {
	defer func() {
		if err != nil {
			p.process.IO().Cancel()
			_ = p.process.IO().Close() // which removes the FIFOs
		}
	}()
	// Not ctx, which ends with the start.
	if p.exited, err = p.process.Wait(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := p.process.Start(ctx); err != nil {
		if text := err.Error(); strings.Contains(text, "executable file not found") || strings.Contains(text, "no such file or directory") {
			return refuse(fmt.Sprintf("there is no command %q in this image", command), err)
		}
		return fmt.Errorf("run %s: %w", command, err)
	}
	return nil
}

// programSpec is the OCI process of a program.
func (r *Runtime) programSpec(ctx context.Context, id string, p Program) (*specs.Process, error) {
	spec, pid, err := r.process(ctx, id)
	if err != nil {
		return nil, err
	}
	spec.Args = p.Argv
	if len(p.Argv) == 0 {
		shell, ok := findShell(pid)
		if !ok {
			return nil, refuse("the image has no shell to run a command with (looked for "+strings.Join(shells, ", ")+")", nil)
		}
		spec.Args = []string{shell, "-c", p.Line}
		if p.Line == "" {
			spec.Args = []string{shell, "-l"}
		}
		spec.Env = append(spec.Env, "SHELL="+shell)
	}
	spec.Env = append(spec.Env, p.Env...)
	if p.Cols > 0 && p.Rows > 0 {
		spec.Terminal = true
		spec.ConsoleSize = &specs.Box{Width: uint(p.Cols), Height: uint(p.Rows)}
	}
	if spec.Cwd == "/" {
		spec.Cwd = home(pid)
	}
	return spec, nil
}

// Wait waits until the program has ended and all that it wrote has been passed
// on, and gives its exit code; above 128, a shell's way to tell of a signal. It is
// called once.
func (p *Process) Wait(ctx context.Context) (code int, err error) {
	var ended <-chan struct{}
	if p.feed != nil {
		ended = p.feed.ended
	}
	for {
		select {
		case <-ended:
			ended = nil
			_ = p.process.CloseIO(p.runtime.in(context.WithoutCancel(ctx)), client.WithStdinCloser) // it may have exited: the status tells
		case st := <-p.exited:
			code, _, err := st.Result()
			return int(code), errors.Join(err, drain(ctx, p.process.IO()))
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Signal sends the program a signal; one that has ended does not mind.
func (p *Process) Signal(ctx context.Context, s syscall.Signal) error {
	_, err := p.runtime.client.TaskService().Kill(p.runtime.in(ctx), &tasks.KillRequest{ContainerID: p.container, ExecID: p.name, Signal: uint32(s)})
	if err := errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("container %s: send %s to a command: %w", p.container, s, err)
	}
	return nil
}

// Resize sets the window of the program's PTY.
func (p *Process) Resize(ctx context.Context, cols, rows uint16) error {
	return p.runtime.Resize(ctx, p.container, p.name, cols, rows)
}

// Close ends the program, if it still runs, with SIGHUP and soon SIGKILL, and
// leaves nothing of it.
func (p *Process) Close() (err error) {
	p.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), hangUpGrace)
		defer cancel()
		_ = p.Signal(ctx, syscall.SIGHUP) // SIGKILL follows
		select {
		case <-p.exited:
		case <-ctx.Done():
		}
		p.process.IO().Cancel()
		err = errors.Join(p.runtime.EndProcess(context.Background(), p.container, p.name), p.process.IO().Close())
	})
	return err
}

// endCommands ends what an EcoLink that was killed has left of Exec and
// StartProgram: nobody reads what they write.
func (r *Runtime) endCommands(ctx context.Context) error {
	all, err := r.client.TaskService().List(r.in(ctx), &tasks.ListTasksRequest{})
	if err != nil {
		return fmt.Errorf("list processes: %w", errgrpc.ToNative(err))
	}
	var each sync.WaitGroup // one container that does not answer holds nobody up
	for _, task := range all.Tasks {
		each.Go(func() { r.endCommandsOf(ctx, task.ID) })
	}
	each.Wait()
	return nil
}

func (r *Runtime) endCommandsOf(ctx context.Context, id string) {
	asking, cancel := context.WithTimeout(r.in(ctx), removeWait)
	defer cancel()
	pids, err := r.client.TaskService().ListPids(asking, &tasks.ListPidsRequest{ContainerID: id})
	if asking.Err() != nil {
		r.log.Warn("a container's shim does not answer", "container", id)
	}
	if err != nil {
		return // it has ended, and its commands with it
	}
	for _, p := range pids.Processes {
		var details options.ProcessDetails
		if p.Info == nil || typeurl.UnmarshalTo(p.Info, &details) != nil || !strings.HasPrefix(details.ExecID, commandPrefix) {
			continue
		}
		if err := r.EndProcess(ctx, id, details.ExecID); err != nil {
			r.log.Warn("a command that nobody waits for could not be ended", "container", id, "err", err)
		}
	}
}

// ExitCode tells how a process that StartShell started has ended. It is known
// until the process is forgotten.
func (r *Runtime) ExitCode(ctx context.Context, id, name string) (code int, known bool) {
	got, err := r.client.TaskService().Get(r.in(ctx), &tasks.GetRequest{ContainerID: id, ExecID: name})
	if err != nil || got.Process == nil || got.Process.ExitedAt == nil || got.Process.ExitedAt.AsTime().IsZero() {
		return 0, false
	}
	return int(got.Process.ExitStatus), true
}

// maxHostsBytes is as much of a container's /etc/hosts as is read.
const maxHostsBytes = 256 << 10

// Hosts opens a container's /etc/hosts, whose content is the container's.
func (r *Runtime) Hosts(id string) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(r.etcDir(id), "hosts"))
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, maxHostsBytes), f}, nil
}
