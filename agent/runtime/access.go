package runtime

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Images that were fetched with a log-in must not become anybody else's. Their
// names are safe: a registry is asked each time whether it gives the image to who
// wants it (Resolve). But containerd keeps layers by their digest, and unpacked
// ones by the digests that an image's configuration claims, whatever image they
// came with: who knows digests of a private image could write a manifest that
// claims them, and be given what is here. So a layer that is here is used only when
//
//   - a registry has given it to somebody without a log-in (publicLabel), or
//   - it came from the very repository that is asked for now (sourceLabel), or
//   - that repository sends all of it once more, and it is the same.
//
// And an unpacked layer is used only for a layer that is known to unpack to it.

// prove makes sure of that before a pull, and once more after it, for what others
// have fetched or unpacked meanwhile: containerd takes it as it is. It costs nothing
// for layers that are not here yet, nor for public ones.
func (r *Runtime) prove(ctx context.Context, s survey, i Image) error {
	ref, err := parseName(i.Name)
	if err != nil {
		return err
	}
	for n, layer := range s.layers {
		layer.URLs = nil
		_, err := r.client.SnapshotService(snapshotter).Stat(ctx, s.chains[n])
		unpacked := err == nil
		_, err = r.client.ContentStore().Info(ctx, layer.Digest)
		if errdefs.IsNotFound(err) {
			if !unpacked {
				continue // it will be fetched, and checked
			}
			err = remotes.Fetch(ctx, r.client.ContentStore(), s.fetcher, layer)
		}
		if err != nil && !errdefs.IsAlreadyExists(err) {
			return err
		}
		if err := r.entitled(ctx, s, layer, ref); err != nil {
			return err
		}
		if unpacked {
			if err := r.unpacksTo(ctx, layer, s.diffs[n]); err != nil {
				return err
			}
		}
	}
	return nil
}

// entitled makes sure that the repository has a layer that is here.
func (r *Runtime) entitled(ctx context.Context, s survey, layer ocispec.Descriptor, ref reference.Named) error {
	info, err := r.client.ContentStore().Info(ctx, layer.Digest)
	if err != nil || had(info, ref) {
		return err
	}
	if !s.sent.has(layer.Digest) {
		if err := sendsAll(ctx, s.fetcher, layer); err != nil {
			return err
		}
	}
	return r.noteSource(ctx, layer.Digest, ref)
}

// had tells whether a layer may be used for the repository as it is.
func had(info content.Info, ref reference.Named) bool {
	return info.Labels[publicLabel] != "" || info.Labels[sourceLabel(ref)] == ref.Name()
}

// sendsAll has the registry send a layer that is here, and compares.
func sendsAll(ctx context.Context, fetcher remotes.Fetcher, layer ocispec.Descriptor) error {
	rc, err := fetcher.Fetch(ctx, layer)
	if err != nil {
		return err
	}
	defer rc.Close()
	verifier := layer.Digest.Verifier()
	if _, err := io.Copy(verifier, io.LimitReader(rc, layer.Size+1)); err != nil {
		return err
	}
	if !verifier.Verified() {
		return refuse("the registry sends something else than the image's digest says; nothing of it was kept: push the image again", nil)
	}
	return nil
}

// unpacksTo makes sure that a layer that is here unpacks to what its image claims.
func (r *Runtime) unpacksTo(ctx context.Context, layer ocispec.Descriptor, diff digest.Digest) error {
	store := r.client.ContentStore()
	info, err := store.Info(ctx, layer.Digest)
	if err != nil {
		return err
	}
	if layer.Digest == diff || info.Labels[labels.LabelUncompressed] == diff.String() {
		return nil // containerd has unpacked it before
	}
	ra, err := store.ReaderAt(ctx, layer)
	if err != nil {
		return err
	}
	defer ra.Close()
	plain, err := compression.DecompressStream(content.NewReader(ra))
	if err != nil {
		return refuse(fmt.Sprintf("a layer of the image can't be unpacked: %v: build and push it again", err), err)
	}
	defer plain.Close()
	got, err := diff.Algorithm().FromReader(plain)
	if err != nil {
		return refuse(fmt.Sprintf("a layer of the image can't be unpacked: %v: build and push it again", err), err)
	}
	if got != diff {
		return refuse("the image's configuration does not fit its layers: build and push it again", nil)
	}
	return nil
}

// publish notes of layers that anybody may have them.
func (r *Runtime) publish(ctx context.Context, layers []ocispec.Descriptor) error {
	store := r.client.ContentStore()
	for _, l := range layers {
		info, err := store.Info(ctx, l.Digest)
		if errdefs.IsNotFound(err) {
			continue // it was unpacked already and not fetched
		}
		if err != nil {
			return err
		}
		if info.Labels[publicLabel] != "" {
			continue
		}
		change := content.Info{Digest: l.Digest, Labels: map[string]string{publicLabel: "true"}}
		if _, err := store.Update(ctx, change, "labels."+publicLabel); err != nil {
			return err
		}
	}
	return nil
}
