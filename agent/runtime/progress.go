package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Progress tells how far a download is. Totals grow while layers are found.
type Progress struct {
	Layers, LayersDone int
	Bytes, TotalBytes  int64
}

// downloads follows the layers of one image into the content store.
type downloads struct {
	store content.Store

	mu     sync.Mutex
	layers []ocispec.Descriptor
}

// note is containerd's handler: it is shown every part of the image.
func (d *downloads) note(_ context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if !images.IsLayerType(desc.MediaType) {
		return nil, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, known := range d.layers {
		if known.Digest == desc.Digest {
			return nil, nil
		}
	}
	d.layers = append(d.layers, desc)
	return nil, nil
}

// report calls progress whenever there is news, until done is closed.
func (d *downloads) report(ctx context.Context, done <-chan struct{}, progress func(Progress)) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	var last Progress
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now := d.measure(ctx); now != last {
			last = now
			progress(now)
		}
	}
}

// measure asks the content store: what is there whole, what is coming in.
func (d *downloads) measure(ctx context.Context) (p Progress) {
	d.mu.Lock()
	layers := d.layers
	d.mu.Unlock()
	coming := map[string]int64{}
	if statuses, err := d.store.ListStatuses(ctx); err == nil {
		for _, s := range statuses {
			coming[s.Expected.String()] = s.Offset
			coming[s.Ref] = s.Offset
		}
	}
	for _, l := range layers {
		p.Layers++
		p.TotalBytes += l.Size
		if _, err := d.store.Info(ctx, l.Digest); err == nil {
			p.LayersDone++
			p.Bytes += l.Size
			continue
		}
		if offset, ok := coming[l.Digest.String()]; ok {
			p.Bytes += offset
		} else {
			// How containerd's fetcher names a layer's download: remotes.MakeRefKey.
			p.Bytes += coming["layer-"+l.Digest.String()]
		}
	}
	return p
}
