package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ecolink/agent/keeper"
	"ecolink/agent/userns"
)

// trialTimeout bounds a trial, which takes a tenth of a second.
const trialTimeout = 20 * time.Second

// trialID is the container's name, and of its folders.
const trialID = "trial"

// TryUser finds out whether containers can run in user namespaces here, by running
// one with runc: its image lies on the disk of cfg.DataDir, as images do, and it
// writes to disk, a folder on a file system like those of layers and volumes, which
// is left with a few empty folders. cfg's folders are for the trial alone. It needs no
// containerd, but images is where that has its own. The error says why they can't.
func TryUser(ctx context.Context, cfg Config, disk, images string) (err error) {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(ctx, cfg.Namespace), trialTimeout)
	defer cancel()
	t := newTrial(cfg, disk)
	if err := errors.Join(userns.CheckFree(), checkWay(cfg.RunDir)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.clear(context.WithoutCancel(ctx))) }()
	if err := t.run(ctx); err != nil {
		return err
	}
	return t.mapOnly(images)
}

// mapOnly finds out whether a folder's owners can be mapped: a containerd that is not
// ours may have its images on another file system.
func (t trial) mapOnly(folder string) error {
	maps, err := t.user.OpenMounts(filepath.Join(t.cfg.mapsDir(), trialID))
	if err != nil {
		return err
	}
	_, err = maps.Files(folder)
	return errors.Join(err, maps.Close())
}

// checkWay makes sure that users of the host may pass through the folders above dir:
// runc, as root of a container, goes to the container's files that way.
func checkWay(dir string) error {
	for above := filepath.Dir(dir); ; above = filepath.Dir(above) {
		st, err := os.Stat(above)
		if err != nil {
			return err
		}
		if st.Mode()&0o001 == 0 {
			return fmt.Errorf("root of a container could not pass through %s to its files: permission denied: `chmod o+x %s`, or choose another --run-dir", above, above)
		}
		if above == filepath.Dir(above) {
			return nil
		}
	}
}

// trial is a container of its own making.
type trial struct {
	cfg                          Config
	lower, disk, bundle, network string
	user                         userns.Mapping
}

func newTrial(cfg Config, disk string) trial {
	return trial{
		cfg: cfg, lower: filepath.Join(cfg.DataDir, trialID), disk: disk, bundle: filepath.Join(cfg.RunDir, "bundle"), network: filepath.Join(cfg.RunDir, "net"),
		user: userns.Mapping{Range: userns.TrialRange(), Path: filepath.Join(cfg.RunDir, "user"), Layer: filepath.Join(cfg.RunDir, "user.layer")},
	}
}

// ClearTrial removes what a trial that was killed has left.
func ClearTrial(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	return newTrial(cfg, "").clear(ctx)
}

func (t trial) state() string  { return filepath.Join(t.cfg.RunDir, "runc") }
func (t trial) rootfs() string { return filepath.Join(t.bundle, "rootfs") }

func (t trial) run(ctx context.Context) error {
	for _, dir := range []string{t.lower, t.rootfs(), filepath.Join(t.disk, "upper"), filepath.Join(t.disk, "work"), filepath.Join(t.disk, "volume")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := t.user.Create(t.network); err != nil {
		return err
	}
	keeperPath, err := keeper.Install(filepath.Join(t.cfg.DataDir, "bin"))
	if err != nil {
		return err
	}
	sftpPath, err := keeper.InstallSFTP(filepath.Join(t.cfg.DataDir, "bin"))
	if err != nil {
		return err
	}
	r := &Runtime{cfg: t.cfg, keeper: keeperPath, sftp: sftpPath}
	defer r.dropGroups()
	c := Container{
		ID: trialID, Hostname: trialID, Layer: t.disk, User: t.user, NetworkNamespace: t.network,
		Volumes: []specs.Mount{{Destination: "/volume", Type: "bind", Source: filepath.Join(t.disk, "volume"), Options: []string{"bind", "rw", "nosuid", "nodev", "rprivate"}}},
	}
	spec, err := r.spec(ctx, c, imageConfig{})
	if err != nil {
		return err
	}
	spec.Process.Args = []string{SFTPPath} // ends at once, as nobody asks it for anything
	rootfs, done, err := r.enterUser(c, spec, []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + t.lower, "upperdir=" + filepath.Join(t.disk, "upper"), "workdir=" + filepath.Join(t.disk, "work"),
	}}})
	if err != nil {
		return err
	}
	defer done()
	if err := mount.All(rootfs, t.rootfs()); err != nil {
		return fmt.Errorf("mount an overlay of mapped folders: %w", err)
	}
	return t.start(ctx, spec)
}

// start runs the container, and looks whose what it wrote is.
func (t trial) start(ctx context.Context, spec *specs.Spec) error {
	config, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(t.bundle, "config.json"), config, 0o644); err != nil {
		return err
	}
	if err := t.runc(ctx, "run", "--bundle", t.bundle, trialID); err != nil {
		return fmt.Errorf("run a container: %w", err)
	}
	// runc, as root of the container, has made a folder to mount /proc at.
	var st unix.Stat_t
	made := filepath.Join(t.disk, "upper", "proc")
	if err := unix.Lstat(made, &st); err != nil {
		return err
	}
	if st.Uid != 0 || st.Gid != 0 {
		return fmt.Errorf("what root writes belongs to %d:%d on the disk, not to root", st.Uid, st.Gid)
	}
	return nil
}

func (t trial) runc(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "runc", append([]string{"--root", t.state()}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %.500s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// clear removes whatever there is of a trial, but for what it wrote to the disk.
func (t trial) clear(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(t.state(), trialID)); err == nil {
		if err := t.runc(ctx, "delete", "--force", trialID); err != nil {
			return err
		}
	}
	if err := userns.CloseMounts(t.rootfs()); err != nil {
		return err
	}
	err := errors.Join(dropMaps(t.cfg.mapsDir()), t.user.Remove(), userns.LetGo(t.network))
	if err != nil {
		return err
	}
	// Nothing is mounted there any more.
	return errors.Join(os.RemoveAll(t.bundle), os.RemoveAll(t.state()), os.RemoveAll(filepath.Join(t.cfg.RunDir, "etc")),
		removeEmpty(t.lower), removeEmpty(t.cfg.mapsDir()))
}

func removeEmpty(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
