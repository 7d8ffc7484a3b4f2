package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"ecolink/agent/runtime/registry"
)

// Image is an image that somebody wants. Digest, when known, is what Name meant
// when it was resolved. Login is for the name's registry; nil is nobody's.
type Image struct {
	Name   string
	Digest string
	Login  *registry.Login
}

// Labels of containerd's image records.
const (
	// publicLabel is on what its registry gives to anybody: it may be used by all
	// while the registry does not answer.
	publicLabel = "ecolink.public"
	// importedLabel is on what the operator has read from a file, and when. It is
	// for everybody, its registry is not asked, and only the operator removes it.
	importedLabel = "ecolink.imported"
	// unprovenLabel is on what was just fetched, until prove has seen it.
	unprovenLabel = "ecolink.unproven"
	// usedLabel is when it was last wanted, to the hour.
	usedLabel = "ecolink.used"
)

// imageConfig is what a container needs to know of its image.
type imageConfig struct {
	ocispec.ImageConfig
	digest string // of the image
	chain  string // key of the snapshot that holds the image's file system
}

// parseName reads a name as people write it (ubuntu, ubuntu:24.04).
func parseName(image string) (reference.Named, error) {
	ref, err := reference.ParseDockerRef(image)
	if err != nil {
		return nil, refuse(fmt.Sprintf("%v: write it like docker.io/library/ubuntu:24.04", err), err)
	}
	return ref, nil
}

// fullName turns a name as people write it into the one that containerd knows
// (docker.io/library/ubuntu:latest).
func fullName(image string) (string, error) {
	ref, err := parseName(image)
	if err != nil {
		return "", err
	}
	return ref.String(), nil
}

// Domain is the registry that a name is of: docker.io of ubuntu:24.04.
func Domain(image string) (string, error) {
	ref, err := parseName(image)
	if err != nil {
		return "", err
	}
	return reference.Domain(ref), nil
}

// pinnedName is the name of exactly one image: repository@sha256:….
func pinnedName(image, dgst string) (string, error) {
	ref, err := parseName(image)
	if err != nil {
		return "", err
	}
	d, err := digest.Parse(dgst)
	if err != nil {
		return "", refuse(fmt.Sprintf("%q is not the digest of an image", dgst), err)
	}
	pinned, err := reference.WithDigest(reference.TrimNamed(ref), d)
	if err != nil {
		return "", refuse(err.Error(), err)
	}
	return pinned.String(), nil
}

// recorded is the name of containerd's record of the image.
func (i Image) recorded() (string, error) {
	if i.Digest == "" {
		return fullName(i.Name)
	}
	return pinnedName(i.Name, i.Digest)
}

// resolved is a registry's word on what a name means.
type resolved struct {
	digest string
	at     time.Time
}

// Resolve gives the digest that a name means now, if whoever has the log-in may
// have the image: its registry is asked each time, whether the image is here or
// not. Its word is believed for checkedFor, so that a form that asks while somebody
// types does not ask it each time. While it does not answer, an image that is here
// and that it gives to anybody is good enough.
//
// An error that trying again can't mend says so by Permanent.
func (r *Runtime) Resolve(ctx context.Context, i Image) (string, error) {
	ref, err := parseName(i.Name)
	if err != nil {
		return "", err
	}
	name := ref.String()
	ctx = r.in(ctx)
	here, known, err := r.find(ctx, name)
	if err != nil {
		return "", err
	}
	if known && here.Labels[importedLabel] != "" {
		return here.Target.Digest.String(), nil
	}
	if err := r.registries.Check(reference.Domain(ref)); err != nil {
		return "", registryError(err, i)
	}
	key := name + " " + i.identity()
	r.mu.Lock()
	seen, asked := r.checked[key]
	r.mu.Unlock()
	if asked && time.Since(seen.at) < checkedFor {
		return seen.digest, nil
	}
	known = known && here.Labels[publicLabel] != ""
	patience := checkTimeout
	if known {
		patience = recheckTimeout
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, desc, err := r.registries.Resolver(i.Login).Resolve(asking, name)
	if err != nil && ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err = registryError(err, i); err != nil && registry.Local(reference.Domain(ref)) {
		err = discreet(err, i)
	}
	if err != nil {
		if known && !isPermanent(err) {
			r.log.Warn("a registry does not answer; the image that is here is used", "image", name, "err", err)
			return here.Target.Digest.String(), nil
		}
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.checked) >= maxConfigs {
		clear(r.checked)
	}
	r.checked[key] = resolved{desc.Digest.String(), time.Now()}
	return desc.Digest.String(), nil
}

// find looks for what a name means here, and sees to it that it stays a while.
func (r *Runtime) find(ctx context.Context, name string) (images.Image, bool, error) {
	r.pruning.RLock()
	defer r.pruning.RUnlock()
	here, err := r.client.ImageService().Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return here, false, nil
	}
	if err != nil {
		return here, false, fmt.Errorf("look for image %s: %w", name, err)
	}
	r.touch(here.Target.Digest.String())
	return here, true, nil
}

// identity tells log-ins apart without keeping them.
func (i Image) identity() string {
	if i.Login == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(i.Login.Username + "\x00" + i.Login.Password))
	return hex.EncodeToString(sum[:])
}

func isPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// keep is local for who is about to run the image: it stays.
func (r *Runtime) keep(ctx context.Context, name string) (imageConfig, error) {
	r.pruning.RLock()
	defer r.pruning.RUnlock()
	cfg, err := r.local(ctx, name)
	if err == nil && r.touch(cfg.digest) {
		r.noteUse(ctx, name)
	}
	return cfg, err
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
	parsed, err := r.config(ctx, img)
	if err != nil {
		return imageConfig{}, fmt.Errorf("image %s: %w", name, err)
	}
	cfg = imageConfig{ImageConfig: parsed.Config, digest: key, chain: identity.ChainID(parsed.RootFS.DiffIDs).String()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.configs) >= maxConfigs {
		clear(r.configs)
	}
	r.configs[key] = cfg
	return cfg, nil
}

// config reads an image's configuration for this machine from the content store.
func (r *Runtime) config(ctx context.Context, img images.Image) (parsed ocispec.Image, err error) {
	store := r.client.ContentStore()
	desc, err := img.Config(ctx, store, platforms.Default())
	if err != nil {
		return parsed, err
	}
	raw, err := content.ReadBlob(ctx, store, desc)
	if err != nil {
		return parsed, err
	}
	if err := json.Unmarshal(raw, &parsed); err != nil {
		return parsed, refuse(fmt.Sprintf("its configuration can't be read: %v", err), err)
	}
	return parsed, nil
}
