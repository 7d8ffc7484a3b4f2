package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	containerdlog "github.com/containerd/log"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"ecolink/agent/keeper"
	"ecolink/agent/runtime/registry"
)

// Limits and time-outs of this package.
const (
	connectTimeout = 10 * time.Second
	checkTimeout   = 15 * time.Second       // for a registry to say whether it has an image
	recheckTimeout = 4 * time.Second        // the same, where the image that is here will do
	checkedFor     = 20 * time.Second       // that answer is believed
	pullTries      = 4                      // of a pull that gets nowhere
	retryPause     = 500 * time.Millisecond // after the first of them; then twice as long each time
	progressEvery  = 200 * time.Millisecond // between two reports of a pull
	maxConfigs     = 256                    // image configurations kept in memory
	logMaxBytes    = 8 << 20                // of one log file
	logFiles       = 4                      // kept for a container
	startTimeout   = time.Minute            // for containerd to create and start a process 1
	killTimeout    = 20 * time.Second       // from SIGKILL to the end of a container
	minServer      = "1.6"                  // the oldest containerd that is tried with ours
)

// Snapshotter and shim. Both are in every containerd from 1.6 to 2.x.
const (
	snapshotter = "overlayfs"
	shimName    = "io.containerd.runc.v2"
)

// Config says which containerd to use and where to keep files.
type Config struct {
	Socket    string // containerd's
	Namespace string // containerd's namespace; everything in it is ours
	// DataDir keeps what must survive a reboot: the keeper and logs. RunDir keeps
	// FIFOs, the /etc files of containers, and what those that start are made from.
	DataDir, RunDir string

	// Registry is the operator's say on registries.
	Registry registry.Config
	// Images says which images that nobody uses are kept.
	Images ImagePolicy
	// MinFreeBytes of the disk with DataDir are left by a pull; 0 is no limit.
	MinFreeBytes int64
	// RetryPause is the first wait after a pull that broke off; 0 is the default.
	RetryPause time.Duration

	wantedFor time.Duration // shorter in tests; 0 is the default
}

// fifoDir has the pipes of the commands that Exec runs now.
func (c Config) fifoDir() string { return filepath.Join(c.RunDir, "fifo") }

// Runtime runs containers. Its methods may be called from many goroutines; those
// that change a container, from one at a time for each container.
type Runtime struct {
	cfg        Config
	log        *slog.Logger
	client     *client.Client
	registries *registry.Client
	keeper     string // path of ecolink-keeper
	sftp       string // path of ecolink-sftp
	boot       string
	quiet      *containerdlog.Entry
	changes    chan string
	ends       *endWatch
	swap       bool // is to be limited
	stop       context.CancelFunc
	loops      sync.WaitGroup

	mu      sync.Mutex
	configs map[string]imageConfig // by the digest of the image's target
	checked map[string]resolved    // what a registry last said that a name means, to whom
	pulls   map[string]*pull       // that are going on, by digest
	touched map[string]wanted      // when images were last wanted, by digest

	// pruning is held by what removes images, and for reading by who relies on one.
	pruning sync.RWMutex
}

// Connect reaches containerd and installs the keeper. The caller must Close the
// Runtime. ctx bounds this call only.
func Connect(ctx context.Context, cfg Config, log *slog.Logger) (*Runtime, error) {
	path, err := keeper.Install(filepath.Join(cfg.DataDir, "bin"))
	if err != nil {
		return nil, err
	}
	sftp, err := keeper.InstallSFTP(filepath.Join(cfg.DataDir, "bin"))
	if err != nil {
		return nil, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	if err := os.MkdirAll(cfg.RunDir, 0o700); err != nil {
		return nil, err
	}
	if err := dropPipes(cfg.fifoDir()); err != nil {
		return nil, err
	}
	if err := dropMaps(cfg.mapsDir()); err != nil {
		return nil, err
	}
	c, err := client.New(cfg.Socket, client.WithDefaultNamespace(cfg.Namespace), client.WithTimeout(connectTimeout),
		client.WithExtraDialOpts([]grpc.DialOption{grpc.WithChainUnaryInterceptor(patient)}))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w: is it running?", cfg.Socket, err)
	}
	r := &Runtime{
		cfg: cfg, log: log, client: c, keeper: path, sftp: sftp, boot: strings.TrimSpace(string(boot)),
		changes: make(chan string, 256), quiet: quietLogger(),
		configs: map[string]imageConfig{}, checked: map[string]resolved{},
		pulls: map[string]*pull{}, touched: map[string]wanted{}, registries: registry.New(cfg.Registry),
	}
	if r.cfg.RetryPause == 0 {
		r.cfg.RetryPause = retryPause
	}
	if r.cfg.wantedFor == 0 {
		r.cfg.wantedFor = wantedFor
	}
	version, err := c.Version(r.in(ctx))
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("ask containerd at %s for its version: %w", cfg.Socket, err)
	}
	if err := CheckVersion(version.Version); err != nil {
		c.Close()
		return nil, fmt.Errorf("containerd at %s: %w", cfg.Socket, err)
	}
	if err := r.endOrphans(ctx); err != nil {
		c.Close()
		return nil, err
	}
	if err := r.endImports(ctx); err != nil {
		c.Close()
		return nil, err
	}
	if err := r.endCommands(ctx); err != nil {
		c.Close()
		return nil, err
	}
	if r.ends, err = newEndWatch(r.tellSoon); err != nil {
		c.Close()
		return nil, err
	}
	r.swap = swapCounted()
	log.Info("containerd", "socket", cfg.Socket, "version", version.Version)
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.loops.Go(func() { r.follow(r.in(loops)) })
	r.loops.Go(func() { r.ends.follow(func(id string) { r.tell(loops, id) }) })
	r.loops.Go(func() { r.watchRunning(r.in(loops)) })
	return r, nil
}

// Close lets containerd go; containers go on. Changes is closed.
func (r *Runtime) Close() error {
	r.stop()
	closed := r.ends.close()
	r.registries.Close()
	r.loops.Wait()
	close(r.changes)
	r.dropGroups()
	return errors.Join(closed, r.client.Close())
}

// dropPipes removes the pipes of commands whose EcoLink was killed. A shim that is
// just starting one of them waits up to 30 seconds for a reader, and answers
// nothing about its container meanwhile: that a pipe is opened lets it go on.
func dropPipes(dir string) error {
	// Out of the way first, or the shim would go on to wait at its next pipe.
	aside := dir + ".old"
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Rename(dir, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	pipes, err := filepath.Glob(filepath.Join(aside, "*", "*"))
	if err != nil {
		return err
	}
	for _, path := range pipes {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
	}
	return os.RemoveAll(aside)
}

// ImageDir is where containerd keeps the layers of images.
func (r *Runtime) ImageDir(ctx context.Context) (string, error) {
	found, err := r.client.IntrospectionService().Plugins(r.in(ctx), "id=="+snapshotter)
	if err != nil {
		return "", fmt.Errorf("ask containerd at %s where it keeps images: %w", r.cfg.Socket, err)
	}
	for _, p := range found.Plugins {
		if dir := p.Exports["root"]; dir != "" {
			return dir, nil
		}
	}
	return "", fmt.Errorf("containerd at %s has no snapshotter %s", r.cfg.Socket, snapshotter)
}

// BootID identifies the present boot of the machine.
func (r *Runtime) BootID() string { return r.boot }

// in makes a context that means our namespace of containerd, and in which
// containerd's client keeps its own log to itself: every error comes back to us.
func (r *Runtime) in(ctx context.Context) context.Context {
	return containerdlog.WithLogger(namespaces.WithNamespace(ctx, r.cfg.Namespace), r.quiet)
}

func quietLogger() *containerdlog.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

// CheckVersion refuses a containerd that is too old, by its version.
func CheckVersion(version string) error {
	if v := strings.TrimPrefix(version, "v"); older(v, minServer) {
		return fmt.Errorf("its version is %s: install %s or newer", v, minServer)
	}
	return nil
}

// older compares the first two numbers of versions such as 1.6.20~ds1. What it
// can't read (a build from source) is not older.
func older(version, than string) bool {
	var major, minor, wantMajor, wantMinor int
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	fmt.Sscanf(than, "%d.%d", &wantMajor, &wantMinor)
	return major < wantMajor || major == wantMajor && minor < wantMinor
}
