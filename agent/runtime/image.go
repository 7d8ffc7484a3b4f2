package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageConfig is what a container needs to know of its image.
type imageConfig struct {
	ocispec.ImageConfig
	chain string // key of the snapshot that holds the image's file system
}

// fullName turns a name as people write it (ubuntu, ubuntu:24.04) into the one
// that containerd knows (docker.io/library/ubuntu:latest).
func fullName(image string) (string, error) {
	ref, err := reference.ParseDockerRef(image)
	if err != nil {
		return "", refuse(fmt.Sprintf("%v: write it like docker.io/library/ubuntu:24.04", err), err)
	}
	return ref.String(), nil
}

// CheckImage returns nil when the image is here or its registry has it; a
// registry's yes is believed for checkedFor, so that a form that asks while
// somebody types does not ask it each time. An error that trying again can't mend
// says so by Permanent.
func (r *Runtime) CheckImage(ctx context.Context, image string) error {
	name, err := fullName(image)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.in(ctx), checkTimeout)
	defer cancel()
	if _, err := r.local(ctx, name); !errdefs.IsNotFound(err) {
		return err
	}
	r.mu.Lock()
	fresh := time.Since(r.checked[name]) < checkedFor
	r.mu.Unlock()
	if fresh {
		return nil
	}
	if _, _, err := docker.NewResolver(r.resolver).Resolve(ctx, name); err != nil {
		return registryError(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.checked) >= maxConfigs {
		clear(r.checked)
	}
	r.checked[name] = time.Now()
	return nil
}

// Pull brings the image here and unpacks it; at once when that is done already.
func (r *Runtime) Pull(ctx context.Context, image string, progress func(Progress)) error {
	name, err := fullName(image)
	if err != nil {
		return err
	}
	ctx = r.in(ctx)
	if cfg, err := r.local(ctx, name); err == nil {
		if _, err := r.client.SnapshotService(snapshotter).Stat(ctx, cfg.chain); err == nil {
			return nil
		}
	}
	seen := &downloads{store: r.client.ContentStore()}
	done := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		seen.report(ctx, done, progress)
	}()
	_, err = r.client.Pull(ctx, name,
		client.WithResolver(docker.NewResolver(r.resolver)),
		client.WithPullUnpack,
		client.WithPullSnapshotter(snapshotter),
		client.WithImageHandler(images.HandlerFunc(seen.note)),
	)
	close(done)
	<-watched
	if err != nil {
		return registryError(err)
	}
	_, err = r.local(ctx, name)
	return err
}

// local reads the configuration of an image that is here; errdefs.ErrNotFound
// when it is not, or not all of it.
func (r *Runtime) local(ctx context.Context, name string) (imageConfig, error) {
	img, err := r.client.ImageService().Get(ctx, name)
	if err != nil {
		return imageConfig{}, err
	}
	key := img.Target.Digest.String()
	r.mu.Lock()
	cfg, ok := r.configs[key]
	r.mu.Unlock()
	if ok {
		return cfg, nil
	}
	store := r.client.ContentStore()
	desc, err := img.Config(ctx, store, platforms.Default())
	if err != nil {
		return imageConfig{}, fmt.Errorf("image %s: %w", name, err)
	}
	raw, err := content.ReadBlob(ctx, store, desc)
	if err != nil {
		return imageConfig{}, fmt.Errorf("image %s: %w", name, err)
	}
	var parsed ocispec.Image
	if err := json.Unmarshal(raw, &parsed); err != nil {
		return imageConfig{}, refuse(fmt.Sprintf("the configuration of image %s can't be read: %v", name, err), err)
	}
	cfg = imageConfig{ImageConfig: parsed.Config, chain: identity.ChainID(parsed.RootFS.DiffIDs).String()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.configs) >= maxConfigs {
		clear(r.configs)
	}
	r.configs[key] = cfg
	return cfg, nil
}
