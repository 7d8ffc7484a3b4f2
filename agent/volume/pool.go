package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config says where volumes are.
type Config struct {
	Dir     string // images; must survive a reboot
	RunDir  string // mount points; a reboot may clear it
	Reserve int64  // bytes of Dir's file system that are never promised
}

const (
	// blockSize is ext4's and the loop device's. Sizes are rounded up to it.
	blockSize = 4096
	// MinBytes is the smallest volume: below it, ext4 has no room for a journal.
	MinBytes = 32 << 20
	// lockTimeout is how long Open waits for a process that is about to end.
	lockTimeout = 2 * time.Second
)

// Names of what is not whole, or no longer, begin like this.
const (
	newPrefix  = ".new-"
	gonePrefix = ".gone-"
)

// Pool is the volumes of one folder. Its methods may be called from many
// goroutines; those on one volume wait for each other.
type Pool struct {
	cfg  Config
	log  *slog.Logger
	lock *os.File
	// patience is for a loop device to go after its last mount.
	patience time.Duration

	mu       sync.Mutex
	promised map[string]promised  // by the path of the file that is being made
	making   map[string]bool      // names in Dir that are being made or removed
	volumes  map[string]*volLocks // those somebody works on
}

// volLocks is the lock of one volume, kept while somebody holds or awaits it.
type volLocks struct {
	free    chan struct{} // has one in it while nobody holds it
	holders int
}

// Open takes the folder, alone, and clears away what a crash left half made.
// Volumes that are mounted stay so.
func Open(cfg Config, log *slog.Logger) (_ *Pool, err error) {
	for _, dir := range []*string{&cfg.Dir, &cfg.RunDir} {
		if err := os.MkdirAll(*dir, 0o700); err != nil {
			return nil, fmt.Errorf("volumes: %w", err)
		}
		// The kernel tells of mounts by their real paths.
		if *dir, err = filepath.EvalSymlinks(*dir); err != nil {
			return nil, fmt.Errorf("volumes: %w", err)
		}
		if *dir, err = filepath.Abs(*dir); err != nil {
			return nil, fmt.Errorf("volumes: %w", err)
		}
	}
	p := &Pool{cfg: cfg, log: log, patience: claimTimeout, promised: map[string]promised{}, making: map[string]bool{}, volumes: map[string]*volLocks{}}
	// A killed EcoLink can't end while it waits to write to what it has stopped.
	if err := p.thawAll(); err != nil {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	if p.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	if err := p.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("volumes: %w", err), p.lock.Close())
	}
	return p, nil
}

// Close lets go of the folder. What is mounted stays mounted.
func (p *Pool) Close() error { return p.lock.Close() }

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	if err := flock(context.Background(), f, lockTimeout); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: another EcoLink holds %s: stop it or choose another folder: %w", ErrInUse, f.Name(), err), f.Close())
	}
	return f, nil
}

// flock takes the one lock of an open file, waiting a while. It ends when the
// last descriptor of that opening is closed, a child's and the kernel's included.
func flock(ctx context.Context, f *os.File, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// thawAll lets every volume go on that a snapshot had stopped: it would hang
// whoever writes to it. If another EcoLink is at that snapshot now, it notices.
func (p *Pool) thawAll() error {
	mounts, err := p.mounts()
	for _, m := range mounts {
		if thaw(m.path) == nil {
			p.log.Warn("a snapshot was cut short; its volume goes on", "volume", m.volume)
		}
	}
	return err
}

// recover removes what a crash left: half-made files and mounts that only a call
// needed.
func (p *Pool) recover() error {
	halves, err := p.halves()
	if err != nil {
		return err
	}
	for _, path := range halves {
		p.log.Warn("removing what was left half made", "path", path)
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	mounts, err := p.mounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if strings.HasPrefix(m.user, ".") {
			if err := unmount(m.path); err != nil {
				return err
			}
		}
	}
	return p.reserveAll()
}

// reserveAll fills the holes of images that were being trimmed, or made by others.
// On a disk that has become full, each volume's next mount says so.
func (p *Pool) reserveAll() error {
	ids, err := p.ids()
	for _, id := range ids {
		size, allocated, err := allocation(p.image(id))
		if err != nil {
			return err
		}
		if size <= allocated {
			continue
		}
		if err := p.reserveAnew(id); err != nil {
			p.log.Error("a volume has lost some of its reservation", "volume", id, "bytes", size-allocated, "err", err)
		}
	}
	return err
}

// halves lists what is not whole. Only one process has the folder, so what this
// one is not making is nobody's.
func (p *Pool) halves() ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []string
	look := func(dir string) error {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			half := strings.HasPrefix(e.Name(), newPrefix) || strings.HasPrefix(e.Name(), gonePrefix)
			if half && !p.making[path] {
				found = append(found, path)
			}
		}
		return err
	}
	err := look(p.cfg.Dir)
	ids, listErr := p.ids()
	for _, id := range ids {
		err = errors.Join(err, look(p.dir(id)), look(p.snapshotDir(id)))
	}
	return found, errors.Join(err, listErr)
}

// aside names a file or folder in dir that is being made or removed, and is not
// there yet. done removes what is left of it.
func (p *Pool) aside(dir, name string) (path string, done func() error) {
	path = filepath.Join(dir, name)
	p.mu.Lock()
	p.making[path] = true
	p.mu.Unlock()
	_ = os.RemoveAll(path) // of an earlier attempt whose removal failed; if it does again, who makes it will say so
	return path, func() error {
		err := os.RemoveAll(path)
		p.mu.Lock()
		delete(p.making, path)
		p.mu.Unlock()
		return err
	}
}

// Info is a volume that is there.
type Info struct {
	ID        string
	Bytes     int64
	Users     []string // who has it mounted, sorted
	Snapshots int
}

// List tells which volumes are there.
func (p *Pool) List() ([]Info, error) {
	ids, err := p.ids()
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	mounts, err := p.mounts()
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var out []Info
	for _, id := range ids {
		st, err := os.Stat(p.image(id))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list volumes: %w", err)
		}
		snapshots, err := p.Snapshots(id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		out = append(out, Info{ID: id, Bytes: st.Size(), Users: usersOf(mounts, id), Snapshots: len(snapshots)})
	}
	return out, nil
}

// ids are the names of the folders that are volumes.
func (p *Pool) ids() ([]string, error) {
	entries, err := os.ReadDir(p.cfg.Dir)
	var out []string
	for _, e := range entries {
		if e.IsDir() && nameRule.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// nameRule is for volumes, users and snapshots: a file name that is no path and
// not hidden.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)

func checkNames(names ...string) error {
	for _, name := range names {
		if !nameRule.MatchString(name) {
			return refuse("%.80q can't be the name of a volume, a snapshot or a user: 1 to 64 letters, digits, dots, dashes and underscores, the first a letter or digit", name)
		}
	}
	return nil
}

func (p *Pool) dir(id string) string            { return filepath.Join(p.cfg.Dir, id) }
func (p *Pool) image(id string) string          { return imageIn(p.cfg.Dir, id) }
func (p *Pool) snapshotDir(id string) string    { return filepath.Join(p.cfg.Dir, id, "snapshots") }
func (p *Pool) snapshot(id, name string) string { return filepath.Join(p.snapshotDir(id), name) }
func imageIn(dir, id string) string             { return filepath.Join(dir, id, "image") }

// hold makes the caller the only one of this process that works on a volume. A copy
// of it may take long: who can't wait for that calls holdFor.
func (p *Pool) hold(id string) (release func()) {
	release, _ = p.holdFor(context.Background(), id)
	return release
}

// holdFor is hold that waits no longer than ctx lets it.
func (p *Pool) holdFor(ctx context.Context, id string) (release func(), err error) {
	p.mu.Lock()
	l := p.volumes[id]
	if l == nil {
		l = &volLocks{free: make(chan struct{}, 1)}
		l.free <- struct{}{}
		p.volumes[id] = l
	}
	l.holders++
	p.mu.Unlock()
	leave := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if l.holders--; l.holders == 0 {
			delete(p.volumes, id)
		}
	}
	select {
	case <-l.free:
		return func() { l.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, &BusyError{Volume: id, Working: true}
	}
}

// claim opens the image and locks it against everybody, which fails while it is
// mounted. Closing the file lets go.
func (p *Pool) claim(ctx context.Context, id string) (*os.File, error) {
	f, err := os.OpenFile(p.image(id), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &LostError{Volume: id, Image: p.image(id)}
	}
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", id, err)
	}
	mounts, err := p.mounts()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	users := usersOf(mounts, id)
	patience := p.patience
	if len(users) > 0 {
		patience = 0
	}
	if err := flock(ctx, f, patience); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = &BusyError{Volume: id, Users: users}
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// claimTimeout is how long a loop device may take to go after its last mount:
// the kernel lets go of a container's mounts a moment after its last process.
const claimTimeout = 5 * time.Second

// syncDir makes renames in a folder survive a power cut.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
