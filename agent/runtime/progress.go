package runtime

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/snapshots"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Progress tells how far a download is.
type Progress struct {
	Layers, LayersDone int
	Bytes, TotalBytes  int64
	Each               []Layer // lowest first; at most maxLayers
}

// Layer is how far one layer is.
type Layer struct {
	Digest            string // the beginning of it
	Bytes, TotalBytes int64
	State             LayerState
}

// LayerState is what becomes of a layer.
type LayerState string

// The states of a layer. Layers come in side by side; they are unpacked one after
// the other, since each is written on top of the one below.
const (
	LayerWaiting     LayerState = "waiting"
	LayerDownloading LayerState = "downloading"
	LayerUnpacking   LayerState = "unpacking"
	LayerDone        LayerState = "done"
)

// shownDigest is how much of a layer's digest is told: sha256 without its name.
const shownDigest = 12

// pull is one that is going on. Who wants the same image meanwhile waits for it.
type pull struct {
	digest string // of the image
	store  content.Store
	snaps  snapshots.Snapshotter
	over   chan struct{} // closed at its end

	mu     sync.Mutex
	layers []ocispec.Descriptor
	chains []string // names of their snapshots
	done   int      // layers that are unpacked, from the lowest
}

// plan says what is to come.
func (p *pull) plan(layers []ocispec.Descriptor, chains []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.layers, p.chains, p.done = layers, chains, 0
}

// report calls progress whenever there is news, until over is closed.
func (p *pull) report(ctx context.Context, over <-chan struct{}, progress func(Progress)) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	var last Progress
	for {
		select {
		case <-over:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := p.measure(ctx)
		if ctx.Err() != nil {
			return // containerd was asked and not waited for
		}
		if !now.equal(last) {
			last = now
			progress(now)
		}
	}
}

func (p Progress) equal(q Progress) bool {
	return p.Layers == q.Layers && p.LayersDone == q.LayersDone && p.Bytes == q.Bytes && p.TotalBytes == q.TotalBytes && slices.Equal(p.Each, q.Each)
}

// measure asks containerd: what is there whole, what is coming in, what is unpacked.
func (p *pull) measure(ctx context.Context) (out Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.done < len(p.chains) {
		if _, err := p.snaps.Stat(ctx, p.chains[p.done]); err != nil {
			break
		}
		p.done++
	}
	coming := map[string]int64{}
	if statuses, err := p.store.ListStatuses(ctx); err == nil {
		for _, s := range statuses {
			coming[s.Ref] = s.Offset
		}
	}
	for n, l := range p.layers {
		one := Layer{Digest: short(l), TotalBytes: l.Size, State: LayerWaiting}
		if n < p.done {
			one.Bytes, one.State = l.Size, LayerDone
		} else if _, err := p.store.Info(ctx, l.Digest); err == nil {
			if one.Bytes = l.Size; n == p.done {
				one.State = LayerUnpacking
			}
		} else if offset := coming[remotes.MakeRefKey(ctx, l)]; offset > 0 {
			one.Bytes, one.State = min(offset, l.Size), LayerDownloading
		}
		if one.State == LayerDone {
			out.LayersDone++
		}
		out.Layers++
		out.Bytes += one.Bytes
		out.TotalBytes += one.TotalBytes
		out.Each = append(out.Each, one)
	}
	return out
}

func short(l ocispec.Descriptor) string {
	hex := l.Digest.Encoded()
	return hex[:min(len(hex), shownDigest)]
}

// errDiskFull is why a pull is given up before it fills the host's disk.
var errDiskFull = errors.New("the box's disk is nearly full")

// guardDisk cancels a pull when less than least bytes are left where images are
// kept: a small download may unpack to any size.
func (r *Runtime) guardDisk(ctx context.Context, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for r.cfg.MinFreeBytes > 0 {
		if free, _, err := diskOf(r.cfg.DataDir); err == nil && free < r.cfg.MinFreeBytes {
			cancel(errDiskFull)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// diskOf is what is free for us where path is, and how much there is in all.
func diskOf(path string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}
