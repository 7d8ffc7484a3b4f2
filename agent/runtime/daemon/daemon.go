package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Time-outs.
const (
	readyTimeout = 30 * time.Second // from the start to an open socket
	stopTimeout  = 15 * time.Second // from SIGTERM to the end
	restartMin   = 200 * time.Millisecond
	restartMax   = 10 * time.Second
)

// Config says where containerd keeps its things.
type Config struct {
	Binary  string // "containerd", looked for in PATH
	DataDir string // images and file systems; survives a reboot
	RunDir  string // socket and state; a reboot may clear it
}

// Socket is where containerd listens.
func (c Config) Socket() string { return filepath.Join(c.RunDir, "containerd.sock") }

// Served tells whether a containerd that is not ours to start answers at the
// socket: a service of the machine's.
func (c Config) Served() bool {
	if _, err := os.Stat(c.pidFile()); err == nil {
		return false // ours, or what is left of it
	}
	if pids, err := c.running(); err != nil || len(pids) > 0 {
		return false
	}
	conn, err := net.DialTimeout("unix", c.Socket(), time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func (c Config) pidFile() string    { return filepath.Join(c.RunDir, "containerd.pid") }
func (c Config) configFile() string { return filepath.Join(c.RunDir, "containerd.toml") }

// Daemon is a containerd that is kept running.
type Daemon struct {
	cfg    Config
	binary string
	log    *slog.Logger
	bounds logBounds
	stop   context.CancelFunc
	loop   sync.WaitGroup
}

// Start starts containerd, or takes over the one that an EcoLink which was
// killed left running, and returns when it answers. The caller must Stop it.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Daemon, error) {
	return startBounded(ctx, cfg, logBounds{bytes: maxLogBytes, interval: logInterval}, log)
}

func startBounded(ctx context.Context, cfg Config, bounds logBounds, log *slog.Logger) (*Daemon, error) {
	binary, err := exec.LookPath(cfg.Binary)
	if err != nil {
		return nil, fmt.Errorf("embedded containerd: %w: install the package containerd", err)
	}
	for _, dir := range []string{cfg.DataDir, cfg.RunDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("embedded containerd: %w", err)
		}
	}
	if err := os.WriteFile(cfg.configFile(), []byte(cfg.toml()), 0o600); err != nil {
		return nil, fmt.Errorf("embedded containerd: %w", err)
	}
	d := &Daemon{cfg: cfg, binary: binary, log: log, bounds: bounds}
	process, err := d.adopt()
	if err != nil {
		return nil, fmt.Errorf("embedded containerd: %w", err)
	}
	if process == nil {
		if process, err = d.launch(); err != nil {
			return nil, fmt.Errorf("embedded containerd: %w", err)
		}
	}
	if err := d.ready(ctx, process); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded containerd: %w", err), process.end())
	}
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	d.loop.Go(func() { d.watch(loop, process) })
	return d, nil
}

// Stop ends containerd; containers go on.
func (d *Daemon) Stop() {
	d.stop()
	d.loop.Wait()
}

// toml is containerd's configuration: what EcoLink does not use is off, Docker's
// and Kubernetes' parts above all. Version 2 is read by 1.6 and by 2.x.
func (c Config) toml() string {
	var off []string
	for _, plugin := range []string{
		"io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
		"io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
		"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs",
		"io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri",
	} {
		off = append(off, strconv.Quote(plugin))
	}
	return fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = [%s]
[grpc]
  address = %q
[debug]
  level = "warn"
[plugins."io.containerd.internal.v1.opt"]
  path = %q
`, c.DataDir, filepath.Join(c.RunDir, "state"), strings.Join(off, ", "), c.Socket(), filepath.Join(c.DataDir, "opt"))
}

// process is a containerd, ours or inherited, known by a descriptor that can't
// come to mean another process.
type process struct {
	pid   int
	pidfd int
	// noAppend is why its log can't be made shorter; nil when it can.
	noAppend error
}

// launch starts containerd in a session of its own: a Ctrl-C for EcoLink is not
// one for containerd.
func (d *Daemon) launch() (*process, error) {
	out, err := d.cfg.openLog()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(d.binary, "--config", d.cfg.configFile())
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p, err := open(cmd.Process.Pid) // while it can't have been reaped
	go cmd.Wait()                   // reaps it; the descriptor tells of its end
	if err == nil {
		err = os.WriteFile(d.cfg.pidFile(), []byte(strconv.Itoa(p.pid)), 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill())
	}
	return p, nil
}

// adopt finds the containerd that an earlier EcoLink started; nil when there is none.
func (d *Daemon) adopt() (*process, error) {
	pids, err := d.cfg.running()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		p, err := open(pid)
		if err != nil {
			continue // it has ended
		}
		// Looked at after the descriptor was taken, so that both speak of the same
		// process.
		if !d.cfg.started(pid) {
			unix.Close(p.pidfd)
			continue
		}
		p.noAppend = p.appendTo(d.cfg.logFile())
		d.log.Info("took over the running containerd", "pid", pid)
		return p, os.WriteFile(d.cfg.pidFile(), []byte(strconv.Itoa(pid)), 0o600)
	}
	return nil, nil
}

// running finds the containerd that was started with our configuration. The file
// with its number may be missing or torn: EcoLink may have been killed between the
// two.
func (c Config) running() (pids []int, err error) {
	all, err := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && c.started(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// started tells whether a process is such a containerd.
func (c Config) started(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	args := strings.Split(string(raw), "\x00")
	return err == nil && len(args) > 2 && filepath.Base(args[0]) == filepath.Base(c.Binary) && args[1] == "--config" && args[2] == c.configFile()
}

func open(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return &process{pid: pid, pidfd: fd}, nil
}

// ended waits for the process's end, at most for so long.
func (p *process) ended(limit time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
	deadline := time.Now().Add(limit)
	for {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll(fds, int(left.Milliseconds()))
		if err == unix.EINTR && left > 0 {
			continue
		}
		return err == nil && n > 0
	}
}

// end stops the process, by force if need be, and lets go of it.
func (p *process) end() error {
	defer unix.Close(p.pidfd)
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(p.pidfd, s, nil, 0); err != nil && err != unix.ESRCH {
			return fmt.Errorf("stop containerd (%d): %w", p.pid, err)
		}
		if p.ended(stopTimeout) {
			return nil
		}
	}
	return fmt.Errorf("containerd (%d) does not end", p.pid)
}

// ready waits until the socket answers.
func (d *Daemon) ready(ctx context.Context, p *process) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		conn, err := net.DialTimeout("unix", d.cfg.Socket(), time.Second)
		if err == nil {
			return conn.Close()
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case p.ended(10 * time.Millisecond):
			return fmt.Errorf("it ended at once; see %s", d.cfg.logFile())
		case time.Now().After(deadline):
			return fmt.Errorf("it does not answer at %s; see %s", d.cfg.Socket(), d.cfg.logFile())
		}
	}
}

// watch starts containerd again whenever it dies, until ctx ends; then it ends it.
func (d *Daemon) watch(ctx context.Context, p *process) {
	wait := restartMin
	for {
		began := time.Now()
		died := make(chan struct{})
		if p != nil {
			go func() {
				for !p.ended(time.Hour) {
				}
				close(died)
			}()
		} else {
			close(died) // it could not be started: try again
		}
		if !d.attend(ctx, p, died) {
			d.finish(p, died)
			return
		}
		if p != nil {
			unix.Close(p.pidfd)
			d.log.Error("containerd died; starting it again", "pid", p.pid, "in", wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if time.Since(began) > restartMax {
			wait = restartMin
		}
		wait = min(2*wait, restartMax)
		var err error
		if p, err = d.launch(); err != nil {
			d.log.Error("containerd can't be started", "err", err)
			p = nil
		}
	}
}

// attend keeps containerd's log small until containerd has died; false when ctx
// ended before that.
func (d *Daemon) attend(ctx context.Context, p *process, died <-chan struct{}) bool {
	look := time.NewTicker(d.bounds.interval)
	defer look.Stop()
	for failed := false; ; {
		var err error
		if p != nil && p.noAppend != nil {
			err = p.noAppend
		} else {
			err = d.bounds.shorten(d.cfg.logFile()) // at once: the one that was taken over may have had nobody
		}
		if err != nil && !failed {
			d.log.Error("containerd's log grows without bound", "err", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return false
		case <-died:
			return true
		case <-look.C:
		}
	}
}

// finish ends the process and then the goroutine that waits for it.
func (d *Daemon) finish(p *process, died <-chan struct{}) {
	if p == nil {
		return
	}
	own, err := unix.Dup(p.pidfd) // the waiting goroutine keeps the other
	if err != nil {
		d.log.Error("containerd could not be stopped", "err", err)
		return
	}
	if err := (&process{pid: p.pid, pidfd: own}).end(); err != nil {
		d.log.Error("containerd could not be stopped", "err", err)
		return
	}
	<-died
	unix.Close(p.pidfd)
	os.Remove(d.cfg.pidFile())
	os.Remove(d.cfg.Socket())
	os.Remove(d.cfg.Socket() + ".ttrpc")
}
