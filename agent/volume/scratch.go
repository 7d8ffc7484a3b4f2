package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// scratchUser has an owner's scratch mounted: its container.
const scratchUser = "layer"

// warmPrefix begins the names of scratches that are nobody's yet.
const warmPrefix = "warm-"

// MaxWarm bounds how many scratches are prepared: each takes its whole size of the
// disk, and a loop device.
const MaxWarm = 64

// refillPause is how long the refiller waits after a failure: the disk may be full.
const refillPause = 10 * time.Second

// refillQuiet is how long nobody must have taken one before more are prepared: who
// takes a scratch starts a container, and is to have the processors first.
const refillQuiet = time.Second

// ScratchConfig says where scratches are and how many are prepared.
type ScratchConfig struct {
	Config
	WarmBytes int64 // size of a prepared one
	Warm      int   // how many are prepared, 0 to MaxWarm
}

// Scratch gives each container a file system of its own for what it writes
// outside of its mounts, of a fixed size: a container that writes without end
// gets ENOSPC, and the host does not. Each is a volume with one user, and all
// that is said of volumes holds. Making one takes a tenth of a second, so a few
// lie ready, mounted; taking one is a rename.
//
// Methods are safe for concurrent use; those for one owner, from one at a time.
type Scratch struct {
	pool *Pool
	cfg  ScratchConfig
	log  *slog.Logger

	warm  chan string   // names; only the refiller adds
	taken chan struct{} // tells it that there is room
	stop  context.CancelFunc
	loop  sync.WaitGroup
}

// OpenScratch takes the folder, keeps what has an owner, removes the rest and
// begins to prepare. The caller must Close it.
func OpenScratch(ctx context.Context, cfg ScratchConfig, log *slog.Logger) (*Scratch, error) {
	if cfg.Warm < 0 || cfg.Warm > MaxWarm {
		return nil, fmt.Errorf("%d scratch disks prepared ahead: want 0 to %d", cfg.Warm, MaxWarm)
	}
	pool, err := Open(cfg.Config, log)
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	s := &Scratch{pool: pool, cfg: cfg, log: log, warm: make(chan string, cfg.Warm), taken: make(chan struct{}, 1)}
	if err := s.recover(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("scratch: %w", err), pool.Close())
	}
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	if cfg.Warm > 0 && cfg.WarmBytes > 0 {
		s.loop.Go(func() { s.refill(loop) })
	}
	return s, nil
}

// recover ends the mounts that a crash between a rename and the mount at the new
// name has left, and removes what was prepared.
func (s *Scratch) recover(ctx context.Context) error {
	mounts, err := s.pool.mounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if strings.HasPrefix(m.volume, warmPrefix) || !s.pool.exists(m.volume) {
			if err := unmount(m.path); err != nil {
				return err
			}
			_ = os.Remove(filepath.Dir(m.path))
		}
	}
	ids, err := s.pool.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if strings.HasPrefix(id, warmPrefix) {
			if err := s.pool.Delete(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close removes what was prepared. Owners keep theirs, mounted as they are.
func (s *Scratch) Close() error {
	s.stop()
	s.loop.Wait()
	var err error
	for len(s.warm) > 0 {
		err = errors.Join(err, s.drop(context.Background(), <-s.warm))
	}
	return errors.Join(err, s.pool.Close())
}

// Acquire gives the path of the owner's scratch, the one that it has or a new one
// of so many bytes. That the disk has no room is an error that is Permanent.
func (s *Scratch) Acquire(ctx context.Context, owner string, bytes int64) (path string, err error) {
	if strings.HasPrefix(owner, warmPrefix) {
		return "", refuse("%q can't be the name of a scratch's owner", owner)
	}
	if !s.pool.exists(owner) {
		if path, ok := s.takeWarm(ctx, owner, bytes); ok {
			return path, nil
		}
		if err := s.pool.Create(ctx, owner, bytes); err != nil {
			return "", scratchError(err)
		}
	} else if size, _, err := allocation(s.pool.image(owner)); err != nil || size < bytes {
		// A crash came between its rename and its growth.
		later := (*GrowLaterError)(nil) // which is by the mount below, if it is not mounted
		if err = errors.Join(err, s.pool.Grow(ctx, owner, bytes)); err != nil && !errors.As(err, &later) {
			return "", scratchError(err)
		}
	}
	path, err = s.pool.Mount(ctx, owner, scratchUser)
	if err != nil {
		return "", fmt.Errorf("scratch: %w", err)
	}
	return path, nil
}

// scratchError says in words for the user that the disk is full, once that is sure.
func scratchError(err error) error {
	if full := (*FullError)(nil); errors.As(err, &full) && full.Permanent() {
		return refuse("the box's disk has %s left for instances and the scratch disk of this one needs %s: end an instance, delete drives or snapshots, or ask the operator for room",
			sizeText(full.Free), sizeText(full.Needs))
	}
	return fmt.Errorf("scratch: %w", err)
}

// takeWarm gives a prepared scratch to the owner, if there is one that is not
// larger than what it may have. Any failure leaves it to the slow way.
func (s *Scratch) takeWarm(ctx context.Context, owner string, bytes int64) (path string, ok bool) {
	if bytes < s.cfg.WarmBytes {
		return "", false
	}
	var id string
	select {
	case id = <-s.warm:
	default:
		return "", false
	}
	select {
	case s.taken <- struct{}{}:
	default:
	}
	path, err := s.pool.rename(id, owner, scratchUser)
	if err == nil && bytes > s.cfg.WarmBytes {
		err = s.pool.Grow(ctx, owner, bytes)
	}
	if err != nil {
		s.log.Warn("a prepared scratch could not be used", "owner", owner, "err", err)
		if err := errors.Join(s.drop(ctx, id), s.drop(ctx, owner)); err != nil {
			s.log.Error("a prepared scratch could not be removed", "err", err)
		}
		return "", false
	}
	return path, true
}

// Release unmounts the owner's scratch and removes it with all that is in it.
// Without one it does nothing.
func (s *Scratch) Release(ctx context.Context, owner string) error {
	if err := s.drop(ctx, owner); err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	return nil
}

func (s *Scratch) drop(ctx context.Context, id string) error {
	if err := s.pool.Unmount(ctx, id, scratchUser); err != nil {
		return err
	}
	return s.pool.Delete(ctx, id)
}

// Owners names all who have a scratch.
func (s *Scratch) Owners() ([]string, error) {
	ids, err := s.pool.ids()
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	var owners []string
	for _, id := range ids {
		if !strings.HasPrefix(id, warmPrefix) {
			owners = append(owners, id)
		}
	}
	return owners, nil
}

// refill keeps cfg.Warm of them ready.
func (s *Scratch) refill(ctx context.Context) {
	for ctx.Err() == nil {
		if len(s.warm) == cap(s.warm) {
			select {
			case <-s.taken:
				s.quiet(ctx)
			case <-ctx.Done():
			}
			continue
		}
		id, err := s.prepare(ctx)
		if err == nil {
			s.warm <- id
			continue
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("no scratch could be prepared; launches make theirs themselves", "err", err)
		select {
		case <-time.After(refillPause):
		case <-ctx.Done():
		}
	}
}

// quiet waits until none has been taken for a while, or none is left.
func (s *Scratch) quiet(ctx context.Context) {
	for len(s.warm) > 0 {
		select {
		case <-s.taken:
		case <-time.After(refillQuiet):
			return
		case <-ctx.Done():
			return
		}
	}
}

func (s *Scratch) prepare(ctx context.Context) (string, error) {
	var unique [6]byte
	rand.Read(unique[:])
	id := warmPrefix + hex.EncodeToString(unique[:])
	err := s.pool.Create(ctx, id, s.cfg.WarmBytes)
	if err == nil {
		_, err = s.pool.Mount(ctx, id, scratchUser)
	}
	if err != nil {
		return "", errors.Join(err, s.drop(context.WithoutCancel(ctx), id))
	}
	return id, nil
}

// rename gives a volume that its only user has mounted another name, without
// unmounting it: the file system is mounted at the new place before it goes from
// the old one. Nothing is synced: after a power cut the volume may have its old
// name, and what was written since then is lost with it.
func (p *Pool) rename(from, to, user string) (path string, err error) {
	if err := checkNames(from, to, user); err != nil {
		return "", err
	}
	defer p.hold(from)()
	defer p.hold(to)()
	mounts, err := p.mounts()
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if m.volume != from || m.user != user {
			continue
		}
		if p.exists(to) { // a rename would not replace a folder that has something in it
			return "", fmt.Errorf("volume %s is there already", to)
		}
		if err := os.Rename(p.dir(from), p.dir(to)); err != nil {
			return "", err
		}
		old := m.path
		m.volume, m.path = to, filepath.Join(p.cfg.RunDir, to, user)
		if err := p.mountDevice(m); err != nil {
			return "", errors.Join(err, unmount(old))
		}
		if err := unmount(old); err != nil {
			return "", err
		}
		_ = os.Remove(filepath.Dir(old))
		return m.path, nil
	}
	return "", fmt.Errorf("volume %s is not mounted for %s", from, user)
}

// Taken is how much of the disk the volumes of a folder take, whoever has it open.
func Taken(dir string) (bytes int64, err error) {
	images, err := filepath.Glob(filepath.Join(dir, "*", "image"))
	for _, image := range images {
		_, allocated, err := allocation(image)
		if err != nil {
			return 0, err
		}
		bytes += allocated
	}
	return bytes, err
}
