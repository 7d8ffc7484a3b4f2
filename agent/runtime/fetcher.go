package runtime

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDownloads are the layers of one image that come in side by side: an image has
// up to maxLayers, and registries count connections.
const maxDownloads = 4

// pinnedResolver answers what has been found out already, so that a pull sees one
// image from its beginning to its end.
type pinnedResolver struct {
	remotes.Resolver
	target ocispec.Descriptor
}

// Resolve implements remotes.Resolver.
func (p pinnedResolver) Resolve(_ context.Context, ref string) (string, ocispec.Descriptor, error) {
	return ref, p.target, nil
}

// Fetcher implements remotes.Resolver.
func (p pinnedResolver) Fetcher(ctx context.Context, ref string) (remotes.Fetcher, error) {
	f, err := p.Resolver.Fetcher(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &fetcher{Fetcher: f, slots: make(chan struct{}, maxDownloads)}, nil
}

// fetcher fetches at most maxDownloads at once.
type fetcher struct {
	remotes.Fetcher
	slots chan struct{}
}

// Fetch implements remotes.Fetcher.
func (f *fetcher) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	free := sync.OnceFunc(func() { <-f.slots })
	rc, err := f.Fetcher.Fetch(ctx, desc)
	if err != nil {
		free()
		return nil, err
	}
	return &download{rc, free}, nil
}

// download is one that has a slot until it is closed.
type download struct {
	io.ReadCloser
	free func()
}

// Close implements io.Closer.
func (d *download) Close() error {
	defer d.free()
	return d.ReadCloser.Close()
}

// Seek implements io.Seeker, by which a download goes on where an earlier one was.
func (d *download) Seek(offset int64, whence int) (int64, error) {
	if s, ok := d.ReadCloser.(io.Seeker); ok {
		return s.Seek(offset, whence)
	}
	return 0, errors.ErrUnsupported
}
