package agent

import (
	"context"
	"io"
	"time"

	"ecolink/agent/runtime"
	"ecolink/agent/runtime/registry"
)

// Image is a container image that somebody wants.
type Image struct {
	Name string // as the user wrote it
	// Digest, when known, is what the name meant when it was resolved; the name may
	// mean something else by now.
	Digest string
	// Login is for the name's registry; nil asks as nobody in particular.
	Login *RegistryLogin
}

// RegistryLogin is a name and password (or token) for a registry.
type RegistryLogin struct{ Username, Password string }

// String keeps the password out of logs.
func (l *RegistryLogin) String() string { return "a log-in as " + l.Username }

func (i Image) wanted() runtime.Image {
	return runtime.Image{Name: i.Name, Digest: i.Digest, Login: (*registry.Login)(i.Login)}
}

func (w Workload) image() Image {
	return Image{Name: w.Image, Digest: w.ImageDigest, Login: w.ImageLogin}
}

// PullProgress tells how far a download is. Totals grow while layers are found.
type PullProgress struct {
	Layers, LayersDone int
	Bytes, TotalBytes  int64
	Each               []PullLayer // in the order of the image, lowest first; a hundred or so at most
}

// PullLayer is how far one layer of an image is.
type PullLayer struct {
	Digest            string // the beginning of it
	Bytes, TotalBytes int64  // downloaded, of how many
	State             LayerState
}

// LayerState is what becomes of a layer.
type LayerState = runtime.LayerState

// The states of a layer.
const (
	LayerWaiting     = runtime.LayerWaiting
	LayerDownloading = runtime.LayerDownloading
	LayerUnpacking   = runtime.LayerUnpacking
	LayerDone        = runtime.LayerDone
)

// StoredImage is an image that is on this machine.
type StoredImage struct {
	Digest   string
	Names    []string // tags that mean it now
	Bytes    int64    // compressed
	Used     time.Time
	Imported bool // from a file: no registry has it, as far as is known
	InUse    bool
	// ImportedNames are those of Names that ImportImage gave it. The others may be
	// known to one account only, and are for the operator's eyes.
	ImportedNames []string
}

// ImageDomain is the registry that a name is of: docker.io of ubuntu:24.04.
func ImageDomain(name string) (string, error) { return runtime.Domain(name) }

// ResolveImage gives the digest that a name means now, if whoever has the log-in
// may have the image. An error that trying again can't mend has Permanent.
func (b *Box) ResolveImage(ctx context.Context, i Image) (digest string, err error) {
	return b.runtime.Resolve(ctx, i.wanted())
}

// PullImage brings the image here; at once when it is here already.
func (b *Box) PullImage(ctx context.Context, i Image, progress func(PullProgress)) error {
	return b.runtime.Pull(ctx, i.wanted(), func(p runtime.Progress) {
		out := PullProgress{Layers: p.Layers, LayersDone: p.LayersDone, Bytes: p.Bytes, TotalBytes: p.TotalBytes}
		for _, l := range p.Each {
			out.Each = append(out.Each, PullLayer(l))
		}
		progress(out)
	})
}

// PruneImages removes images that nobody has used for long, or for which there is
// no room: never one that inUse (names or digests) has, a container runs from, or
// that is just being fetched.
func (b *Box) PruneImages(ctx context.Context, inUse []string) ([]StoredImage, error) {
	found, err := b.runtime.Prune(ctx, inUse, false)
	return storedImages(found), err
}

// Images lists what is here, the one used last first.
func (b *Box) Images(ctx context.Context, inUse []string) ([]StoredImage, error) {
	found, err := b.runtime.Images(ctx, inUse)
	return storedImages(found), err
}

// ImportedImages lists those that ImportImage brought here, by the names that it
// gave them, and without InUse.
func (b *Box) ImportedImages(ctx context.Context) ([]StoredImage, error) {
	found, err := b.runtime.ImportedImages(ctx)
	return storedImages(found), err
}

// ImportImage reads images from a file as `docker save` or an OCI layout has them:
// all of them, or none.
func (b *Box) ImportImage(ctx context.Context, file io.Reader, name string) ([]StoredImage, error) {
	found, err := b.runtime.Import(ctx, file, name)
	return storedImages(found), err
}

// RemoveImage removes an image by a name or digest, an imported one too.
func (b *Box) RemoveImage(ctx context.Context, image string, inUse []string) (StoredImage, error) {
	gone, err := b.runtime.RemoveImage(ctx, image, inUse)
	if err != nil {
		return StoredImage{}, err
	}
	return storedImages([]runtime.StoredImage{gone})[0], nil
}

// RemoveUnusedImages removes every image that nobody needs, save imported ones.
func (b *Box) RemoveUnusedImages(ctx context.Context, inUse []string) ([]StoredImage, error) {
	gone, err := b.runtime.Prune(ctx, inUse, true)
	return storedImages(gone), err
}

// Why an image is not removed.
var (
	ErrImageInUse = runtime.ErrImageInUse
	ErrNoImage    = runtime.ErrNoImage
)

func storedImages(found []runtime.StoredImage) []StoredImage {
	out := make([]StoredImage, 0, len(found))
	for _, s := range found {
		out = append(out, StoredImage{Digest: s.Digest, Names: s.Names, Bytes: s.Bytes, Used: s.Used, Imported: s.Imported, InUse: s.InUse, ImportedNames: s.ImportedNames})
	}
	return out
}
