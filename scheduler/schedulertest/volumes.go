package schedulertest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"ecolink/agent"
)

// Volumes are the scheduler's Volumes and Snapshots in memory: as on the machine,
// what is in use can't be deleted or put back, and sizes add up. Safe for
// concurrent use; make one by NewVolumes.
type Volumes struct {
	mu    sync.Mutex
	there map[string]*Volume
	total int64
	fault func(op, id string) (before, after error)
	slow  func(op, id string) (before, after time.Duration)
	files string // a folder with one for each volume; "" when they have no files
}

// Volume is what there is of one.
type Volume struct {
	Bytes     int64
	Content   string // stands for its files
	Users     map[string]string
	Snapshots map[string]Volume
}

// NewVolumes has none yet, and room for so many bytes.
func NewVolumes(total int64) *Volumes {
	return &Volumes{there: map[string]*Volume{}, total: total}
}

// FailWith has each call ask f: an error for before it does anything, as from a
// full disk, or for after it has done all, as when power fails before the answer.
// nil lets everything succeed again.
func (v *Volumes) FailWith(f func(op, id string) (before, after error)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fault = f
}

// SlowWith has each call ask f for how long it takes: before it does what it is
// asked, and after that, before it answers. It ends early with its context. nil lets
// everything take no time again.
func (v *Volumes) SlowWith(f func(op, id string) (before, after time.Duration)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.slow = f
}

// At gives a copy of what there is of a volume; ok is false when there is nothing.
func (v *Volumes) At(id string) (out Volume, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if have := v.there[id]; have != nil {
		out = *have
		out.Users, out.Snapshots = maps.Clone(have.Users), maps.Clone(have.Snapshots)
		return out, true
	}
	return out, false
}

// Names lists the volumes that are there.
func (v *Volumes) Names() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.there))
}

// Write puts something into a volume.
func (v *Volumes) Write(id, content string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if have := v.there[id]; have != nil {
		have.Content = content
	}
}

// Mount has a workload use its volumes, which must be there.
func (v *Volumes) Mount(w agent.Workload) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range w.Mounts {
		have := v.there[m.Volume]
		if have == nil {
			return Refusal("there is no volume " + m.Volume)
		}
		have.Users[w.ID] = m.Path
	}
	return nil
}

// Unmount ends a workload's use of every volume.
func (v *Volumes) Unmount(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, have := range v.there {
		delete(have.Users, id)
	}
}

// Reboot ends everybody's use.
func (v *Volumes) Reboot() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, have := range v.there {
		clear(have.Users)
	}
}

// do runs an operation between the pauses and faults that are asked for.
func (v *Volumes) do(ctx context.Context, op, id string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v.mu.Lock()
	slow := v.slow
	v.mu.Unlock()
	var before, after time.Duration
	if slow != nil {
		before, after = slow(op, id)
	}
	if err := pause(ctx, before); err != nil {
		return err
	}
	if err := v.act(op, id, f); err != nil {
		return err
	}
	return pause(ctx, after)
}

// pause takes so long, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// act runs an operation between the faults that are asked for.
func (v *Volumes) act(op, id string, f func() error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var before, after error
	if v.fault != nil {
		before, after = v.fault(op, id)
	}
	if before != nil {
		return before
	}
	if err := f(); err != nil {
		return err
	}
	return after
}

func (v *Volumes) free() int64 {
	free := v.total
	for _, have := range v.there {
		free -= have.Bytes
	}
	return free
}

func (v *Volumes) find(id string) (*Volume, error) {
	if have := v.there[id]; have != nil {
		return have, nil
	}
	return nil, fmt.Errorf("volume %s: %w", id, agent.ErrVolumeNotFound)
}

func (v *Volumes) add(id string, made Volume) error {
	if have := v.there[id]; have != nil {
		if have.Bytes != made.Bytes {
			return Refusal(fmt.Sprintf("volume %s has another size", id))
		}
		return nil
	}
	if free := v.free(); made.Bytes > free {
		return &agent.VolumeFullError{Needs: made.Bytes, Free: free}
	}
	made.Users, made.Snapshots = map[string]string{}, map[string]Volume{}
	v.there[id] = &made
	return nil
}

// CreateVolume makes an empty volume.
func (v *Volumes) CreateVolume(ctx context.Context, id string, bytes int64) error {
	return v.do(ctx, "create", id, func() error { return v.add(id, Volume{Bytes: bytes}) })
}

// GrowVolume makes a volume larger.
func (v *Volumes) GrowVolume(ctx context.Context, id string, bytes int64) error {
	return v.do(ctx, "grow", id, func() error {
		have, err := v.find(id)
		if err != nil {
			return err
		}
		if free := v.free(); bytes-have.Bytes > free {
			return &agent.VolumeFullError{Needs: bytes - have.Bytes, Free: free}
		}
		have.Bytes = max(have.Bytes, bytes)
		return nil
	})
}

// DeleteVolume removes a volume that nobody uses.
func (v *Volumes) DeleteVolume(ctx context.Context, id string) error {
	return v.do(ctx, "delete", id, func() error {
		if have := v.there[id]; have != nil && len(have.Users) > 0 {
			return &agent.VolumeBusyError{Volume: id, Users: slices.Sorted(maps.Keys(have.Users))}
		}
		delete(v.there, id)
		return nil
	})
}

// VolumeSpace tells what is left.
func (v *Volumes) VolumeSpace(ctx context.Context) (s agent.VolumeSpace, err error) {
	err = v.do(ctx, "space", "", func() error {
		s = agent.VolumeSpace{TotalBytes: v.total, FreeBytes: v.free(), PromisedBytes: v.total - v.free(), Volumes: map[string]int64{}}
		for id, have := range v.there {
			s.Volumes[id] = have.Bytes
		}
		return nil
	})
	return s, err
}

// VolumeUsage says that a volume is a quarter full.
func (v *Volumes) VolumeUsage(ctx context.Context, id string) (u agent.VolumeUsage, err error) {
	err = v.do(ctx, "usage", id, func() error {
		have, err := v.find(id)
		if err == nil {
			u = agent.VolumeUsage{Bytes: have.Bytes, CapacityBytes: have.Bytes, FreeBytes: have.Bytes / 4 * 3}
		}
		return err
	})
	return u, err
}

// KeepFiles gives volumes files: each has a folder below dir.
func (v *Volumes) KeepFiles(dir string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.files = dir
}

// FilesOf is the folder that a volume's files are in.
func (v *Volumes) FilesOf(id string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return filepath.Join(v.files, id)
}

// OpenVolume opens a volume's files, for which KeepFiles must have been called.
func (v *Volumes) OpenVolume(_ context.Context, id string) (*agent.OpenVolume, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fault != nil {
		if before, _ := v.fault("open", id); before != nil {
			return nil, before
		}
	}
	if v.files == "" {
		return nil, Refusal("volumes in memory have no files")
	}
	if v.there[id] == nil {
		return nil, agent.ErrVolumeNotFound
	}
	dir := filepath.Join(v.files, id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &agent.OpenVolume{Root: root, Close: root.Close}, nil
}

// SnapshotVolume keeps what is in a volume.
func (v *Volumes) SnapshotVolume(ctx context.Context, id, name string) error {
	return v.do(ctx, "snapshot", id, func() error {
		have, err := v.find(id)
		if err != nil {
			return err
		}
		if _, there := have.Snapshots[name]; !there {
			have.Snapshots[name] = Volume{Bytes: have.Bytes, Content: have.Content}
		}
		return nil
	})
}

// VolumeSnapshots lists a volume's snapshots, each of which takes a byte and a
// tenth of it.
func (v *Volumes) VolumeSnapshots(ctx context.Context, id string) (out []agent.VolumeSnapshot, err error) {
	err = v.do(ctx, "snapshots", id, func() error {
		have, err := v.find(id)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(have.Snapshots)) {
			s := have.Snapshots[name]
			out = append(out, agent.VolumeSnapshot{Name: name, CreatedAt: time.Now(), Bytes: s.Bytes, UsedBytes: s.Bytes/10 + 1})
		}
		return nil
	})
	return out, err
}

// DeleteVolumeSnapshot removes a snapshot.
func (v *Volumes) DeleteVolumeSnapshot(ctx context.Context, id, name string) error {
	return v.do(ctx, "delete snapshot", id, func() error {
		if have := v.there[id]; have != nil {
			delete(have.Snapshots, name)
		}
		return nil
	})
}

// RestoreVolume puts a volume that nobody uses back to a snapshot. It keeps its size.
func (v *Volumes) RestoreVolume(ctx context.Context, id, name string) error {
	return v.do(ctx, "restore", id, func() error {
		have, err := v.find(id)
		if err != nil {
			return err
		}
		s, there := have.Snapshots[name]
		if !there {
			return fmt.Errorf("snapshot %s of %s: %w", name, id, agent.ErrVolumeNotFound)
		}
		if len(have.Users) > 0 {
			return &agent.VolumeBusyError{Volume: id, Users: slices.Sorted(maps.Keys(have.Users))}
		}
		have.Content = s.Content
		return nil
	})
}

// CloneVolume makes a volume of another.
func (v *Volumes) CloneVolume(ctx context.Context, from, snapshot, to string) error {
	return v.do(ctx, "clone", to, func() error {
		source, err := v.find(from)
		if err != nil {
			return err
		}
		made := Volume{Bytes: source.Bytes, Content: source.Content}
		if snapshot != "" {
			s, there := source.Snapshots[snapshot]
			if !there {
				return fmt.Errorf("snapshot %s of %s: %w", snapshot, from, agent.ErrVolumeNotFound)
			}
			made = s
		}
		return v.add(to, made)
	})
}
