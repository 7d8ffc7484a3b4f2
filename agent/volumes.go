package agent

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ecolink/agent/volume"
)

// Mount puts a volume into a workload's container.
type Mount struct {
	Volume string // "drive-12"
	Path   string // absolute, in the container
}

// OpenVolume is a volume's files, for a program on the host. Root follows no
// link out of the volume. Close may be called more than once; the volume stays
// mounted for a while after the last user of it has closed.
type OpenVolume struct {
	Root  *os.Root
	Close func() error
}

// What a volume is and how full, and what can go wrong with one.
type (
	VolumeInfo         = volume.Info
	VolumeUsage        = volume.Usage
	VolumeSnapshot     = volume.Snapshot
	VolumeSpace        = volume.Space
	VolumeFullError    = volume.FullError
	VolumeBusyError    = volume.BusyError
	VolumeCorruptError = volume.CorruptError
	// VolumeGrowLaterError: the space is reserved, and in the file system from
	// the next attachment on.
	VolumeGrowLaterError = volume.GrowLaterError
)

// ErrVolumeNotFound is what a volume or snapshot that is not there gives.
var ErrVolumeNotFound = volume.ErrNotFound

// MinVolumeBytes is the size of the smallest volume.
const MinVolumeBytes = volume.MinBytes

// CreateVolume makes a volume of so many bytes. That it is there already with
// that size is fine.
func (b *Box) CreateVolume(ctx context.Context, id string, bytes int64) error {
	return b.volumes.Create(ctx, id, bytes)
}

// GrowVolume makes a volume larger, mounted or not. It never shrinks one.
func (b *Box) GrowVolume(ctx context.Context, id string, bytes int64) error {
	return b.volumes.Grow(ctx, id, bytes)
}

// DeleteVolume removes a volume and its snapshots. One that is not there is fine,
// one that somebody uses is a VolumeBusyError.
func (b *Box) DeleteVolume(ctx context.Context, id string) error {
	if err := b.files.drop(ctx, id); err != nil {
		return err
	}
	return b.volumes.Delete(ctx, id)
}

// SnapshotVolume keeps what is in the volume now under a name.
func (b *Box) SnapshotVolume(ctx context.Context, id, name string) error {
	return b.volumes.Snapshot(ctx, id, name)
}

// DeleteVolumeSnapshot removes a snapshot. One that is not there is fine.
func (b *Box) DeleteVolumeSnapshot(ctx context.Context, id, name string) error {
	return b.volumes.DeleteSnapshot(ctx, id, name)
}

// VolumeSnapshots lists a volume's snapshots, oldest first.
func (b *Box) VolumeSnapshots(_ context.Context, id string) ([]VolumeSnapshot, error) {
	return b.volumes.Snapshots(id)
}

// RestoreVolume puts back what a snapshot has. Nobody may use the volume.
func (b *Box) RestoreVolume(ctx context.Context, id, name string) error {
	if err := b.files.drop(ctx, id); err != nil {
		return err
	}
	return b.volumes.Restore(ctx, id, name)
}

// CloneVolume makes a new volume with what a snapshot of another has, or, with
// "" for it, with what is in the other now.
func (b *Box) CloneVolume(ctx context.Context, from, snapshot, to string) error {
	return b.volumes.Clone(ctx, from, snapshot, to)
}

// VolumeUsage tells how full a volume is.
func (b *Box) VolumeUsage(ctx context.Context, id string) (VolumeUsage, error) {
	return b.volumes.Usage(ctx, id)
}

// ListVolumes tells which volumes are on the machine and who uses them.
func (b *Box) ListVolumes(context.Context) ([]VolumeInfo, error) { return b.volumes.List() }

// VolumeSpace tells how much the machine can still promise.
func (b *Box) VolumeSpace(context.Context) (VolumeSpace, error) { return b.volumes.Space() }

// OpenVolume gives the files of a volume, attached to a container or not.
func (b *Box) OpenVolume(ctx context.Context, id string) (*OpenVolume, error) {
	return b.files.openVolume(ctx, id)
}

// Close lets go of volumes whose files somebody looked at. Workloads keep theirs.
func (b *Box) Close() error { return b.files.close(context.Background()) }

// mountVolumes mounts what the workload uses and gives what its container binds.
// What is mounted when it fails stays for Remove.
func (b *Box) mountVolumes(ctx context.Context, w Workload) ([]specs.Mount, error) {
	// A parent comes before what is mounted in it.
	sorted := slices.SortedFunc(slices.Values(w.Mounts), func(a, b Mount) int { return strings.Compare(a.Path, b.Path) })
	var out []specs.Mount
	for _, m := range sorted {
		path, err := b.volumes.Mount(ctx, m.Volume, w.ID)
		if err != nil {
			return nil, err
		}
		// The flags of the mount itself hold in the container only when they are
		// asked for again.
		out = append(out, specs.Mount{Destination: m.Path, Type: "bind", Source: path, Options: []string{"bind", "rw", "nosuid", "nodev", "rprivate"}})
	}
	return out, nil
}

// releaseVolumes ends a workload's use of every volume.
func (b *Box) releaseVolumes(ctx context.Context, id string) error {
	users, err := b.volumes.Users()
	for _, v := range users[id] {
		err = errors.Join(err, b.volumes.Unmount(ctx, v, id))
	}
	return err
}

// volumeUsers names the workloads that have volumes.
func (b *Box) volumeUsers() ([]string, error) {
	users, err := b.volumes.Users()
	var out []string
	for user := range users {
		if user != filesUser {
			out = append(out, user)
		}
	}
	return out, err
}
