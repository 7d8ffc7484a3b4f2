package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// importLabel is on the lease of an import, and when it began.
const importLabel = "ecolink.import"

// endImports clears away what imports had taken that this process's predecessor
// did not live to end. Nobody can go on with one, and containerd would write the
// next file of the same name behind the half of it.
func (r *Runtime) endImports(ctx context.Context) error {
	ctx = r.in(ctx)
	all := r.client.LeasesService()
	left, err := all.List(ctx, fmt.Sprintf("labels.%q", importLabel))
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for _, l := range left {
		if err := all.Delete(ctx, l, leases.SynchronousDelete); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("end a lease: %w", err)
		}
	}
	return nil
}

// Import reads images from a tar file as `docker save` or an OCI layout has them,
// compressed or not. They are for everybody on the box, and stay until they are
// removed by name. A name, when given, is that of the one image in the file.
//
// All of the file's images are taken or none is. An error is in words for whoever
// sent the file.
func (r *Runtime) Import(ctx context.Context, file io.Reader, name string) ([]StoredImage, error) {
	if name != "" {
		if _, err := fullName(name); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(r.in(ctx))
	defer cancel(nil)
	lease, done, err := r.lease(ctx, leases.WithLabel(importLabel, now()))
	if err != nil {
		return nil, err
	}
	leased := leases.WithLease(ctx, lease.ID)
	watching, unwatch := context.WithCancel(leased)
	watched := make(chan struct{})
	go func() { defer close(watched); r.guardDisk(watching, cancel) }()
	found, err := r.read(leased, file, name)
	unwatch()
	<-watched
	if errors.Is(context.Cause(ctx), errDiskFull) {
		err = fmt.Errorf("%w: make room and import it again", errDiskFull)
	}
	return found, errors.Join(err, done())
}

// read does what Import says, under a lease that ends with it.
func (r *Runtime) read(ctx context.Context, file io.Reader, name string) ([]StoredImage, error) {
	plain, err := compression.DecompressStream(bufio.NewReader(file))
	if err != nil {
		return nil, badFile(err)
	}
	defer plain.Close()
	store := r.client.ContentStore()
	target, err := archive.ImportIndex(ctx, store, plain)
	if err == nil {
		// To its end: a compressed file has its checksum there.
		_, err = io.Copy(io.Discard, plain)
	}
	if err != nil {
		return nil, badFile(err)
	}
	raw, err := content.ReadBlob(ctx, store, target)
	if err != nil {
		return nil, badFile(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, badFile(err)
	}
	named, err := nameAll(index.Manifests, name)
	if err != nil {
		return nil, err
	}
	// All that can fail comes before the first name.
	for _, desc := range named {
		if err := r.unpackImport(ctx, desc); err != nil {
			return nil, err
		}
	}
	var out []StoredImage
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if err := r.record(ctx, name, named[name]); err != nil {
			return nil, err
		}
		out = append(out, StoredImage{Digest: named[name].Digest.String(), Names: []string{name}, Imported: true, ImportedNames: []string{name}})
	}
	return out, nil
}

// badFile says that a file is no archive of images.
func badFile(err error) error {
	if strings.Contains(err.Error(), "no space left on device") {
		return &plainError{"the box's disk is full: make room and import it again", err}
	}
	if errors.Is(err, context.Canceled) || errdefs.IsUnavailable(err) {
		return err
	}
	return refuse(fmt.Sprintf("this is no file that `docker save` or an OCI tool has written, or not all of it (%s): save the image again", lastWords(err.Error())), err)
}

// nameAll finds out what the images of a file are called.
func nameAll(all []ocispec.Descriptor, name string) (map[string]ocispec.Descriptor, error) {
	if len(all) == 0 {
		return nil, refuse("there is no image in the file", nil)
	}
	distinct := map[string]ocispec.Descriptor{}
	for _, desc := range all {
		distinct[desc.Digest.String()] = desc
	}
	out := map[string]ocispec.Descriptor{}
	if name != "" {
		if len(distinct) > 1 {
			return nil, refuse(fmt.Sprintf("the file has %d images, and a name is for one: leave the name out, or save one image only", len(distinct)), nil)
		}
		full, err := fullName(name)
		if err != nil {
			return nil, err
		}
		out[full] = all[0]
	}
	for _, desc := range all {
		if name != "" {
			break
		}
		given := desc.Annotations[images.AnnotationImageName]
		if given == "" {
			given = desc.Annotations[ocispec.AnnotationRefName]
		}
		ref, err := reference.ParseDockerRef(given)
		if err != nil || !strings.ContainsAny(given, ":/") { // an OCI layout may have a bare tag there
			return nil, refuse("the file does not say what its image is called: give it a name (--name)", err)
		}
		out[ref.String()] = desc
	}
	for full := range out {
		if strings.Contains(full, "@") {
			return nil, refuse(fmt.Sprintf("%s has a digest in its name: give it a tag", printableType(full)), nil)
		}
	}
	return out, nil
}

// unpackImport checks an imported image and unpacks it.
func (r *Runtime) unpackImport(ctx context.Context, desc ocispec.Descriptor) error {
	store := r.client.ContentStore()
	img := images.Image{Name: "import", Target: desc}
	manifest, err := images.Manifest(ctx, store, desc, platforms.Default())
	if errdefs.IsNotFound(err) {
		has, _ := images.Platforms(ctx, store, desc) // of a file with parts missing: what is known
		return otherPlatform(has)
	}
	if err != nil {
		return badFile(err)
	}
	config, err := r.config(ctx, img)
	if err != nil {
		return badFile(err)
	}
	if !platforms.Default().Match(platforms.Normalize(config.Platform)) {
		return otherPlatform([]ocispec.Platform{config.Platform})
	}
	if err := checkLayers(manifest.Layers, config.RootFS.DiffIDs); err != nil {
		return err
	}
	for _, l := range manifest.Layers {
		if _, err := store.Info(ctx, l.Digest); err != nil {
			return badFile(err)
		}
	}
	for n, l := range manifest.Layers {
		if err := r.unpacksTo(ctx, l, config.RootFS.DiffIDs[n]); err != nil {
			return err
		}
	}
	// What each part refers to, for containerd's collector.
	label := images.SetChildrenMappedLabels(store, images.FilterPlatforms(images.ChildrenHandler(store), platforms.Default()), images.ChildGCLabels)
	if err := images.Walk(ctx, label, desc); err != nil {
		return badFile(err)
	}
	if err := client.NewImageWithPlatform(r.client, img, platforms.Default()).Unpack(ctx, snapshotter); err != nil {
		return registryError(err, Image{Name: "import"})
	}
	return r.publish(ctx, manifest.Layers)
}

// record gives an imported image its name, and the one by its digest.
func (r *Runtime) record(ctx context.Context, name string, desc ocispec.Descriptor) error {
	pin, err := pinnedName(name, desc.Digest.String())
	if err != nil {
		return err
	}
	desc.Annotations = nil
	all := r.client.ImageService()
	for _, full := range []string{pin, name} {
		record := images.Image{Name: full, Target: desc, Labels: map[string]string{importedLabel: now(), usedLabel: now(), publicLabel: "true"}}
		_, err := all.Create(ctx, record)
		if errdefs.IsAlreadyExists(err) {
			_, err = all.Update(ctx, record)
		}
		if err != nil {
			return fmt.Errorf("record image %s: %w", full, err)
		}
	}
	return nil
}
