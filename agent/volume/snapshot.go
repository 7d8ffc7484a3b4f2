package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// maxSnapshots bounds the snapshots of a volume.
const maxSnapshots = 100

// Snapshot is what a volume had at one time.
type Snapshot struct {
	Name      string
	CreatedAt time.Time
	Bytes     int64 // size of the volume then
	UsedBytes int64 // of the pool
}

// Snapshot keeps what is in the volume now. All that was synced before the call
// is in it. That there is one of this name already is fine. A volume may be
// mounted: writes to it wait meanwhile, for freezeTimeout at most.
func (p *Pool) Snapshot(ctx context.Context, id, name string) error {
	if err := checkNames(id, name); err != nil {
		return err
	}
	defer p.hold(id)()
	if err := p.takeSnapshot(ctx, id, name); err != nil {
		return fmt.Errorf("snapshot %s of volume %s: %w", name, id, err)
	}
	return nil
}

func (p *Pool) takeSnapshot(ctx context.Context, id, name string) (err error) {
	names, err := snapshotNames(p.snapshotDir(id))
	if err != nil {
		return err
	}
	if slices.Contains(names, name) {
		return nil
	}
	if len(names) >= maxSnapshots {
		return refuse("there are %d snapshots, which is the most: delete one", len(names))
	}
	tmp, done := p.aside(p.dir(id), newPrefix+"snapshot-"+name)
	defer func() { err = errors.Join(err, done()) }()
	source, err := p.source(ctx, id)
	if err != nil {
		return err
	}
	defer source.close()
	data, err := dataBytes(source.image)
	if err != nil {
		return err
	}
	settle, err := p.promise(tmp, promised{bytes: data})
	if err != nil {
		return err
	}
	defer settle()
	err = p.makeCopy(ctx, source, tmp, func(*os.File) error { return nil })
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.snapshotDir(id), 0o700); err != nil {
		return err
	}
	if err := p.install(tmp, tmp, p.snapshot(id, name)); err != nil {
		return err
	}
	return errors.Join(syncDir(p.snapshotDir(id)), syncDir(p.dir(id)))
}

// source is an image to copy, and how to make it hold still.
type source struct {
	id    string
	image *os.File
	live  string // where it is mounted; "" when it is not, and locked instead
}

func (s source) close() { _ = s.image.Close() } // it was only read

// source finds a volume's image. The caller holds the volume.
func (p *Pool) source(ctx context.Context, id string) (source, error) {
	mounts, err := p.mounts()
	if err != nil {
		return source{}, err
	}
	for _, m := range mounts {
		if m.volume == id {
			if err := p.backs(m.loop, id); err != nil {
				return source{}, err
			}
			if err := p.trim(ctx, m); err != nil {
				return source{}, err
			}
			image, err := os.Open(p.image(id))
			return source{id: id, image: image, live: m.path}, err
		}
	}
	image, err := p.claim(ctx, id)
	return source{id: id, image: image}, err
}

// makeCopy copies an image to a new file, checks the copy and syncs it. finish
// may change it in between.
func (p *Pool) makeCopy(ctx context.Context, s source, path string, finish func(*os.File) error) error {
	image, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if s.live != "" {
		err = whileFrozen(ctx, s.live, func(ctx context.Context) error { return copyImage(ctx, image, s.image) })
	} else {
		err = copyImage(ctx, image, s.image)
	}
	err = p.asFull(err, s.image, path)
	if err == nil {
		err = p.check(ctx, s.id, image)
	}
	if err == nil {
		err = finish(image)
	}
	if err == nil {
		err = image.Sync()
	}
	return errors.Join(err, image.Close())
}

// Snapshots lists a volume's snapshots, oldest first.
func (p *Pool) Snapshots(id string) ([]Snapshot, error) {
	if err := checkNames(id); err != nil {
		return nil, err
	}
	if !p.exists(id) {
		return nil, fmt.Errorf("volume %s: %w", id, ErrNotFound)
	}
	names, err := snapshotNames(p.snapshotDir(id))
	if err != nil {
		return nil, err
	}
	var out []Snapshot
	for _, name := range names {
		st, err := os.Stat(p.snapshot(id, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		_, allocated, err := allocation(p.snapshot(id, name))
		if err != nil {
			return nil, err
		}
		out = append(out, Snapshot{Name: name, CreatedAt: st.ModTime().UTC(), Bytes: st.Size(), UsedBytes: allocated})
	}
	slices.SortStableFunc(out, func(a, b Snapshot) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return out, nil
}

// snapshotNames lists the files that are whole.
func snapshotNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if nameRule.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// DeleteSnapshot removes a snapshot. One that is not there is fine.
func (p *Pool) DeleteSnapshot(_ context.Context, id, name string) error {
	if err := checkNames(id, name); err != nil {
		return err
	}
	defer p.hold(id)()
	err := os.Remove(p.snapshot(id, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(p.snapshotDir(id))
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %s of volume %s: %w", name, id, err)
	}
	return nil
}

// Restore puts back what a snapshot has; what is in the volume now is lost. The
// volume keeps its size if it has grown since. It must not be mounted. While it
// works, it needs as much free space as the volume is large.
func (p *Pool) Restore(ctx context.Context, id, name string) error {
	if err := checkNames(id, name); err != nil {
		return err
	}
	defer p.hold(id)()
	if err := p.restore(ctx, id, name); err != nil {
		return fmt.Errorf("restore snapshot %s of volume %s: %w", name, id, err)
	}
	return nil
}

func (p *Pool) restore(ctx context.Context, id, name string) (err error) {
	old, err := p.claim(ctx, id)
	if err != nil {
		return err
	}
	defer old.Close()
	st, err := old.Stat()
	if err != nil {
		return err
	}
	snapshot, err := p.openSnapshot(id, name)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	kept, err := snapshot.Stat()
	if err != nil {
		return err
	}
	size := max(st.Size(), kept.Size()) // one that was cut off is shorter
	tmp, done := p.aside(p.dir(id), newPrefix+"image")
	defer func() { err = errors.Join(err, done()) }()
	settle, err := p.promise(tmp, promised{bytes: size})
	if err != nil {
		return err
	}
	defer settle()
	err = p.makeCopy(ctx, source{id: id, image: snapshot}, tmp, func(image *os.File) error {
		return p.ownBlocks(ctx, image, size)
	})
	if err != nil {
		return err
	}
	if err := p.install(tmp, tmp, p.image(id)); err != nil {
		return err
	}
	return syncDir(p.dir(id))
}

func (p *Pool) openSnapshot(id, name string) (*os.File, error) {
	f, err := os.Open(p.snapshot(id, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	return f, err
}

// Clone makes the volume `to` of a snapshot of another or, with "" for it, of
// what is in the other now, as Snapshot does. The new volume has its whole size
// reserved. That `to` is there already is fine.
func (p *Pool) Clone(ctx context.Context, from, snapshot, to string) error {
	if err := checkNames(from, to); err != nil {
		return err
	}
	if snapshot != "" {
		if err := checkNames(snapshot); err != nil {
			return err
		}
	}
	if from == to {
		return refuse("volume %s can't be a clone of itself", from)
	}
	first, second := from, to
	if strings.Compare(first, second) > 0 {
		first, second = second, first // always in one order: two that wait for each other would wait for ever
	}
	defer p.hold(first)()
	defer p.hold(second)()
	if p.exists(to) {
		return nil
	}
	if err := p.clone(ctx, from, snapshot, to); err != nil {
		return fmt.Errorf("clone volume %s as %s: %w", from, to, err)
	}
	return nil
}

func (p *Pool) clone(ctx context.Context, from, snapshot, to string) (err error) {
	var s source
	if snapshot == "" {
		s, err = p.source(ctx, from)
	} else {
		s.id = from
		s.image, err = p.openSnapshot(from, snapshot)
	}
	if err != nil {
		return err
	}
	defer s.close()
	st, err := s.image.Stat()
	if err != nil {
		return err
	}
	settle, err := p.promise(p.newImage(to), promised{to, st.Size()})
	if err != nil {
		return err
	}
	defer settle()
	tmp, done := p.aside(p.cfg.Dir, newPrefix+to)
	defer func() { err = errors.Join(err, done()) }()
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	err = p.makeCopy(ctx, s, p.newImage(to), func(image *os.File) error {
		return p.ownBlocks(ctx, image, st.Size())
	})
	if err != nil {
		return err
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	if err := p.install(p.newImage(to), tmp, p.dir(to)); err != nil {
		return err
	}
	return syncDir(p.cfg.Dir)
}
