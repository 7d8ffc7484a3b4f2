package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
)

// ImagePolicy says when an image that nobody uses goes.
type ImagePolicy struct {
	// UnusedFor is how long nobody has wanted it; 0 keeps it until room is needed.
	UnusedFor time.Duration
	// HighWater is how full the disk may be, in percent: above it those that nobody
	// has wanted for longest go, until it is lowStep below. 0 is no limit.
	HighWater int
}

// Limits of pruning.
const (
	// wantedFor is how long an image that somebody has just asked for or fetched is
	// left alone: by then a container runs from it, or a record names it.
	wantedFor = 30 * time.Minute
	// askedFor is the same where the operator wants it gone: long enough for a
	// launch that has just asked for it to come on record.
	askedFor  = time.Minute
	lowStep   = 5         // percent
	useStep   = time.Hour // how exact the time of the last use is
	maxWanted = 4096      // images whose last use is remembered here
)

// StoredImage is an image that is on this machine.
type StoredImage struct {
	Digest   string
	Names    []string // tags that mean it now
	Bytes    int64    // of what was fetched for it, shared layers included
	Used     time.Time
	Imported bool
	InUse    bool
	// ImportedNames are those of Names that Import gave it. The others may be known to
	// one account only: whoever may pull an image of the same digest names it.
	ImportedNames []string

	records []string // all of containerd's, pinned names too
}

// now is a moment as labels have it.
func now() string { return time.Now().UTC().Format(time.RFC3339Nano) }

// wanted is when somebody last wanted an image, and when that was written down.
type wanted struct{ at, noted time.Time }

// touch notes that somebody wants the image, so that nobody removes it meanwhile.
// due says that it is time to write that down.
func (r *Runtime) touch(digest string) (due bool) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.touched) >= maxWanted {
		maps.DeleteFunc(r.touched, func(_ string, w wanted) bool { return now.Sub(w.at) > r.cfg.wantedFor })
	}
	w := r.touched[digest]
	w.at = now
	if due = now.Sub(w.noted) >= useStep; due {
		w.noted = now
	}
	r.touched[digest] = w
	return due
}

// noteUse writes down that the image is used: what is forgotten with this process
// is at most an hour.
func (r *Runtime) noteUse(ctx context.Context, name string) {
	change := images.Image{Name: name, Labels: map[string]string{usedLabel: now()}}
	if _, err := r.client.ImageService().Update(ctx, change, "labels."+usedLabel); err != nil {
		r.log.Warn("the use of an image could not be noted", "image", name, "err", err)
	}
}

// Images lists what is here, the one that was used last first. inUse are names or
// digests that somebody needs.
func (r *Runtime) Images(ctx context.Context, inUse []string) ([]StoredImage, error) {
	return r.imagesSince(r.in(ctx), inUse, 0)
}

// ImportedImages lists those of Images that Import brought here, by their imported
// names alone, and without InUse: every user may ask, and what others have pulled
// must not make that cost more.
func (r *Runtime) ImportedImages(ctx context.Context) ([]StoredImage, error) {
	ctx = r.in(ctx)
	records, err := r.client.ImageService().List(ctx, fmt.Sprintf("labels.%q", importedLabel))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	// A name may be gone, and the record of the digest still be there.
	return slices.DeleteFunc(r.stored(ctx, records, nil), func(s StoredImage) bool { return len(s.ImportedNames) == 0 }), nil
}

// imagesSince lists images; those that were wanted so lately count as in use.
func (r *Runtime) imagesSince(ctx context.Context, inUse []string, lately time.Duration) ([]StoredImage, error) {
	records, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	used, err := r.needed(ctx, inUse, lately)
	if err != nil {
		return nil, err
	}
	return r.stored(ctx, records, used), nil
}

// stored are the images that containerd's records tell of, the one that was used
// last first. Each one's size takes reading its manifest.
func (r *Runtime) stored(ctx context.Context, records []images.Image, used map[string]bool) []StoredImage {
	byDigest := map[string]*StoredImage{}
	for _, img := range records {
		digest := img.Target.Digest.String()
		s := byDigest[digest]
		if s == nil {
			s = &StoredImage{Digest: digest, InUse: used[digest]}
			s.Bytes, _ = img.Size(ctx, r.client.ContentStore(), platforms.Default()) // of a half one: what is known
			byDigest[digest] = s
		}
		s.records = append(s.records, img.Name)
		if !strings.Contains(img.Name, "@") {
			s.Names = append(s.Names, img.Name)
			if img.Labels[importedLabel] != "" {
				s.ImportedNames = append(s.ImportedNames, img.Name)
			}
		}
		s.InUse = s.InUse || used[img.Name]
		s.Imported = s.Imported || img.Labels[importedLabel] != ""
		at, err := time.Parse(time.RFC3339, img.Labels[usedLabel])
		if err != nil {
			at = img.UpdatedAt
		}
		if at.After(s.Used) {
			s.Used = at
		}
	}
	var out []StoredImage
	for _, s := range byDigest {
		slices.Sort(s.Names)
		slices.Sort(s.ImportedNames)
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b StoredImage) int {
		return cmp.Or(b.Used.Compare(a.Used), cmp.Compare(a.Digest, b.Digest))
	})
	return out
}

// needed are the names and digests that may not go: those given, those that a
// container runs from, those that are being fetched or were asked for just now.
func (r *Runtime) needed(ctx context.Context, inUse []string, lately time.Duration) (map[string]bool, error) {
	out := map[string]bool{}
	for _, one := range inUse {
		out[one] = true
		if name, err := fullName(one); err == nil {
			out[name] = true
		}
	}
	all, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	for _, c := range all {
		out[c.Image] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pulls {
		out[p.digest] = true
	}
	for digest, w := range r.touched {
		if time.Since(w.at) < lately {
			out[digest] = true
		}
	}
	return out, nil
}

// Prune removes images that nobody needs and that the policy does not keep; with
// all, every one that nobody needs. Imported ones stay.
func (r *Runtime) Prune(ctx context.Context, inUse []string, all bool) (gone []StoredImage, err error) {
	r.pruning.Lock()
	defer r.pruning.Unlock()
	lately := r.cfg.wantedFor
	if all {
		lately = min(lately, askedFor)
	}
	stored, err := r.imagesSince(r.in(ctx), inUse, lately)
	if err != nil {
		return nil, err
	}
	policy := r.cfg.Images
	full := r.fuller(policy.HighWater)
	for _, s := range slices.Backward(stored) { // unused for longest first
		if s.InUse || s.Imported {
			continue
		}
		old := policy.UnusedFor > 0 && time.Since(s.Used) > policy.UnusedFor
		if !all && !old && !full {
			continue
		}
		if err := r.forget(r.in(ctx), s); err != nil {
			return gone, err
		}
		gone = append(gone, s)
		full = full && r.fuller(policy.HighWater-lowStep)
	}
	return gone, nil
}

// fuller tells whether more of the disk is used than so many percent.
func (r *Runtime) fuller(percent int) bool {
	free, total, err := diskOf(r.cfg.DataDir)
	return r.cfg.Images.HighWater > 0 && err == nil && total > 0 && (total-free)*100/total > int64(percent)
}

// forget removes an image's records, and waits until containerd has removed what
// no other image needs.
func (r *Runtime) forget(ctx context.Context, s StoredImage) error {
	for n, name := range s.records {
		var how []images.DeleteOpt
		if n == len(s.records)-1 {
			how = append(how, images.SynchronousDelete())
		}
		if err := r.client.ImageService().Delete(ctx, name, how...); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove image %s: %w", name, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.configs, s.Digest)
	return nil
}

// ErrImageInUse is why an image is not removed.
var ErrImageInUse = errors.New("the image is in use: end the instances that run from it first")

// ErrNoImage is the error for an image that is not here.
var ErrNoImage = errors.New("there is no such image on this box: `ecolink image list` shows what there is")

// RemoveImage removes an image by a name or digest, an imported one too.
func (r *Runtime) RemoveImage(ctx context.Context, image string, inUse []string) (StoredImage, error) {
	r.pruning.Lock()
	defer r.pruning.Unlock()
	stored, err := r.imagesSince(r.in(ctx), inUse, min(r.cfg.wantedFor, askedFor))
	if err != nil {
		return StoredImage{}, err
	}
	full, _ := fullName(image) // a digest is no name
	for _, s := range stored {
		if s.Digest != image && !slices.Contains(s.records, full) {
			continue
		}
		if s.InUse {
			return s, ErrImageInUse
		}
		return s, r.forget(r.in(ctx), s)
	}
	return StoredImage{}, ErrNoImage
}
