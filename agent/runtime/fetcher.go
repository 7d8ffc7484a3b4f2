package runtime

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDownloads are the layers of one image that come in side by side: an image has
// up to maxLayers, and registries count connections.
const maxDownloads = 4

// blobTypes are the kinds of what is fetched, and what remotes.MakeRefKey begins the
// names of their downloads with.
var blobTypes = map[string]string{
	images.MediaTypeDockerSchema2Manifest: "manifest", ocispec.MediaTypeImageManifest: "manifest",
	images.MediaTypeDockerSchema2ManifestList: "index", ocispec.MediaTypeImageIndex: "index",
	images.MediaTypeDockerSchema2Config: "config", ocispec.MediaTypeImageConfig: "config",
	images.MediaTypeDockerSchema2Layer: "layer", images.MediaTypeDockerSchema2LayerGzip: "layer", images.MediaTypeDockerSchema2LayerZstd: "layer",
	ocispec.MediaTypeImageLayer: "layer", ocispec.MediaTypeImageLayerGzip: "layer", ocispec.MediaTypeImageLayerZstd: "layer",
}

// fetchedFrom gives each registry downloads of its own. containerd has one download
// of a digest at a time, whoever sends it, and a registry that sends a popular layer
// byte by byte would hold up all who want it from elsewhere.
func fetchedFrom(ctx context.Context, domain string) context.Context {
	for mediaType, kind := range blobTypes {
		ctx = remotes.WithMediaTypeKeyPrefix(ctx, mediaType, domain+"-"+kind)
	}
	return ctx
}

// pinnedResolver answers what has been found out already, so that a pull sees one
// image from its beginning to its end.
type pinnedResolver struct {
	remotes.Resolver
	target ocispec.Descriptor
	sent   *deliveries
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
	return &fetcher{Fetcher: noted{f, p.sent}, slots: make(chan struct{}, maxDownloads)}, nil
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
