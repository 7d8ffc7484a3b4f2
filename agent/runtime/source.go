package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	sourcePrefix = "ecolink.from."
	// maxSources is how many repositories are noted of one layer; the rest send it
	// again with each pull.
	maxSources = 64
)

// sourceLabel is on each layer that a repository has sent whole, one for each of
// them; its value is the repository with its registry. containerd has such a label
// too, but leaves ports out: to it all registries of one host are the same. And it
// labels what was here already as if the registry had sent it.
func sourceLabel(ref reference.Named) string {
	sum := sha256.Sum256([]byte(ref.Name()))
	return sourcePrefix + hex.EncodeToString(sum[:16])
}

// noteSource notes that a repository has sent a layer that is here.
func (r *Runtime) noteSource(ctx context.Context, layer digest.Digest, ref reference.Named) error {
	store := r.client.ContentStore()
	info, err := store.Info(ctx, layer)
	if err != nil {
		return err
	}
	sources := 0
	for label := range info.Labels {
		if strings.HasPrefix(label, sourcePrefix) {
			sources++
		}
	}
	if sources >= maxSources || had(info, ref) {
		return nil
	}
	key := sourceLabel(ref)
	_, err = store.Update(ctx, content.Info{Digest: layer, Labels: map[string]string{key: ref.Name()}}, "labels."+key)
	return err
}

// noting notes of each layer whence it came as soon as it is here, so that a pull
// that is cut off goes on without it.
func (r *Runtime) noting(s survey, ref reference.Named) func(images.Handler) images.Handler {
	return func(next images.Handler) images.Handler {
		next = withoutURLs(next)
		return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
			children, err := next.Handle(ctx, desc)
			if err == nil && images.IsLayerType(desc.MediaType) && s.sent.has(desc.Digest) {
				err = r.noteSource(ctx, desc.Digest, ref)
			}
			return children, err
		})
	}
}

// deliveries are the digests of what a registry has sent to the end. Whether it was
// what the digest says is for those to check who keep it.
type deliveries struct {
	mu      sync.Mutex
	digests map[digest.Digest]bool
}

func (d *deliveries) has(of digest.Digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.digests[of]
}

func (d *deliveries) add(of digest.Digest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.digests[of] = true
}

// noted is a fetcher whose deliveries are noted.
type noted struct {
	remotes.Fetcher
	sent *deliveries
}

// Fetch implements remotes.Fetcher.
func (n noted) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := n.Fetcher.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	return &delivery{download{rc, func() {}}, desc.Digest, n.sent}, nil
}

type delivery struct {
	download
	of   digest.Digest
	sent *deliveries
}

// Read implements io.Reader.
func (d *delivery) Read(p []byte) (int, error) {
	n, err := d.download.Read(p)
	if errors.Is(err, io.EOF) {
		d.sent.add(d.of)
	}
	return n, err
}
