package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits of an image.
const (
	maxManifest   = 4 << 20   // bytes of a manifest or index: as containerd has it
	maxConfig     = 8 << 20   // bytes of a configuration
	maxImageBytes = 512 << 30 // of all layers, compressed
	maxLayers     = 128       // overlayfs and Docker stop there as well
	maxIndexDepth = 3         // of an index in an index
	maxListed     = 12        // architectures that an error names
)

// survey is what an image is made of, as far as this machine needs it.
type survey struct {
	resolver remotes.Resolver
	fetcher  remotes.Fetcher
	sent     *deliveries // by the registry, since the survey began
	target   ocispec.Descriptor
	layers   []ocispec.Descriptor
	diffs    []digest.Digest // the layers unpacked, as the configuration claims
	chains   []string        // the layers' snapshots
}

// survey fetches an image's manifest and configuration, and refuses what can't
// work before a layer is fetched.
func (r *Runtime) survey(ctx context.Context, resolver remotes.Resolver, pin string) (s survey, err error) {
	_, target, err := resolver.Resolve(ctx, pin)
	if err != nil {
		return s, err
	}
	from, err := resolver.Fetcher(ctx, pin)
	if err != nil {
		return s, err
	}
	sent := &deliveries{digests: map[digest.Digest]bool{}}
	fetcher := noted{from, sent}
	manifest, err := r.manifest(ctx, fetcher, target, 0)
	if err != nil {
		return s, err
	}
	raw, err := r.small(ctx, fetcher, manifest.Config, maxConfig)
	if err != nil {
		return s, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		return s, refuse(fmt.Sprintf("the image's configuration can't be read: %v", err), err)
	}
	if !platforms.Default().Match(platforms.Normalize(config.Platform)) {
		return s, otherPlatform([]ocispec.Platform{config.Platform})
	}
	s = survey{resolver: pinnedResolver{resolver, target, sent}, fetcher: fetcher, sent: sent, target: target, layers: manifest.Layers, diffs: config.RootFS.DiffIDs}
	if err := checkLayers(manifest.Layers, config.RootFS.DiffIDs); err != nil {
		return s, err
	}
	for n := range config.RootFS.DiffIDs {
		s.chains = append(s.chains, identity.ChainID(slices.Clone(config.RootFS.DiffIDs[:n+1])).String())
	}
	return s, nil
}

// manifest fetches the manifest that is for this machine, through indexes.
func (r *Runtime) manifest(ctx context.Context, fetcher remotes.Fetcher, desc ocispec.Descriptor, depth int) (m ocispec.Manifest, err error) {
	isIndex := images.IsIndexType(desc.MediaType)
	if !isIndex && !images.IsManifestType(desc.MediaType) || desc.MediaType == images.MediaTypeDockerSchema1Manifest {
		return m, refuse(fmt.Sprintf("this is no container image: its type is %q", printableType(desc.MediaType)), nil)
	}
	raw, err := r.small(ctx, fetcher, desc, maxManifest)
	if err != nil {
		return m, err
	}
	if !isIndex {
		if err := json.Unmarshal(raw, &m); err != nil {
			return m, refuse(fmt.Sprintf("the image's manifest can't be read: %v", err), err)
		}
		return m, nil
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return m, refuse(fmt.Sprintf("the image's list of manifests can't be read: %v", err), err)
	}
	mine := platforms.Default()
	var fit []ocispec.Descriptor
	var others []ocispec.Platform
	for _, d := range index.Manifests {
		if d.Platform == nil || mine.Match(*d.Platform) {
			fit = append(fit, d)
		} else {
			others = append(others, *d.Platform)
		}
	}
	if len(fit) == 0 {
		return m, otherPlatform(others)
	}
	if depth == maxIndexDepth {
		return m, refuse("the image's list of manifests has too many levels", nil)
	}
	// As containerd's images.Manifest sorts them: what says its platform comes first.
	slices.SortStableFunc(fit, func(a, b ocispec.Descriptor) int {
		switch {
		case a.Platform == nil && b.Platform == nil:
			return 0
		case a.Platform == nil:
			return 1
		case b.Platform == nil:
			return -1
		case mine.Less(*a.Platform, *b.Platform):
			return -1
		case mine.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	})
	return r.manifest(ctx, fetcher, fit[0], depth+1)
}

// small fetches a part of an image that is read as a whole.
func (r *Runtime) small(ctx context.Context, fetcher remotes.Fetcher, desc ocispec.Descriptor, most int64) ([]byte, error) {
	desc.URLs = nil
	if err := desc.Digest.Validate(); err != nil {
		return nil, refuse("the image's manifest has no valid digests", err)
	}
	if desc.Size <= 0 || desc.Size > most {
		return nil, refuse(fmt.Sprintf("the image has a manifest or configuration of %d bytes: at most %d are read", desc.Size, most), nil)
	}
	store := r.client.ContentStore()
	err := remotes.Fetch(ctx, store, fetcher, desc)
	if errdefs.IsFailedPrecondition(err) {
		_ = store.Abort(ctx, remotes.MakeRefKey(ctx, desc))
	}
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return nil, err
	}
	return content.ReadBlob(ctx, store, desc)
}

// checkLayers refuses layers that can't be an image's.
func checkLayers(layers []ocispec.Descriptor, diffs []digest.Digest) error {
	if len(layers) > maxLayers {
		return refuse(fmt.Sprintf("the image has %d layers: at most %d can be used", len(layers), maxLayers), nil)
	}
	if len(layers) != len(diffs) || len(layers) == 0 {
		return refuse(fmt.Sprintf("this is no image that can run: it has %d layers, and its configuration speaks of %d", len(layers), len(diffs)), nil)
	}
	var total int64
	for n, l := range layers {
		if !images.IsLayerType(l.MediaType) {
			return refuse(fmt.Sprintf("this is no image that can run: a part of it has the type %q", printableType(l.MediaType)), nil)
		}
		if l.Digest.Validate() != nil || diffs[n].Validate() != nil || l.Size <= 0 {
			return refuse("the image's manifest has no valid digests", nil)
		}
		if total += l.Size; l.Size > maxImageBytes || total > maxImageBytes {
			return refuse(fmt.Sprintf("the image has more than %d GiB", maxImageBytes>>30), nil)
		}
	}
	return nil
}

// otherPlatform is the refusal of an image for other machines.
func otherPlatform(has []ocispec.Platform) error {
	var names []string
	for _, p := range has {
		name := printableType(platforms.Format(p))
		if p.OS == "" && p.Architecture == "" {
			name = "an unknown architecture"
		}
		if p.OS != "unknown" && !slices.Contains(names, name) { // attestations are of no platform
			names = append(names, name)
		}
	}
	if len(names) > maxListed {
		names = append(names[:maxListed], "others")
	}
	list := "for no platform"
	if len(names) > 0 {
		list = "for " + strings.Join(names, ", ")
	}
	return refuse(fmt.Sprintf("this machine is %s and the image is %s: build or choose one for this machine",
		platforms.Format(platforms.DefaultSpec()), list), errdefs.ErrNotFound)
}

// printableType shortens a word of somebody else's for a message.
func printableType(s string) string {
	clean := strings.Map(func(c rune) rune {
		if c < 0x20 || c > 0x7e {
			return '?'
		}
		return c
	}, s)
	return clean[:min(len(clean), 80)]
}
