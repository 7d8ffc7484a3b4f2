package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Pull brings the image here and unpacks it; at once when that is done already.
// One that breaks off goes on, the next time, from the bytes that are here.
func (r *Runtime) Pull(ctx context.Context, i Image, progress func(Progress)) (err error) {
	if i.Digest == "" {
		if i.Digest, err = r.Resolve(ctx, i); err != nil {
			return err
		}
	}
	pin, err := pinnedName(i.Name, i.Digest)
	if err != nil {
		return err
	}
	ctx = r.in(ctx)
	for {
		p, mine := r.joinPull(pin, i)
		if mine {
			err := r.pullOnce(ctx, p, i, pin, progress)
			r.touch(i.Digest) // while it still counts as being fetched
			r.leavePull(pin, p)
			return err
		}
		// Somebody else fetches it: for them it may be another repository's, and
		// they may give up. Look again then.
		p.report(ctx, p.over, progress)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// pullOnce is pull, unless that is done already.
func (r *Runtime) pullOnce(ctx context.Context, p *pull, i Image, pin string, progress func(Progress)) error {
	if r.ready(ctx, pin) {
		return nil
	}
	return r.pull(ctx, p, i, pin, progress)
}

// ready tells whether the image is here, unpacked, and sees to it that it stays.
func (r *Runtime) ready(ctx context.Context, pin string) bool {
	cfg, err := r.keep(ctx, pin)
	if err != nil {
		return false
	}
	if img, err := r.client.ImageService().Get(ctx, pin); err != nil || img.Labels[unprovenLabel] != "" {
		return false
	}
	_, err = r.client.SnapshotService(snapshotter).Stat(ctx, cfg.chain)
	return err == nil
}

// joinPull finds the pull of an image that is under way, or begins one. The same
// image from another repository is another: that registry may send nothing.
func (r *Runtime) joinPull(pin string, i Image) (p *pull, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pulls[pin]; p != nil {
		return p, false
	}
	p = &pull{digest: i.Digest, store: r.client.ContentStore(), snaps: r.client.SnapshotService(snapshotter), over: make(chan struct{})}
	r.pulls[pin] = p
	return p, true
}

func (r *Runtime) leavePull(pin string, p *pull) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pulls, pin)
	close(p.over)
}

// pull fetches an image, however often its registry breaks off as long as it gets
// anywhere.
func (r *Runtime) pull(ctx context.Context, p *pull, i Image, pin string, progress func(Progress)) error {
	domain, err := Domain(i.Name)
	if err != nil {
		return err
	}
	leased, done, err := r.hold(ctx, pin)
	if err != nil {
		return err
	}
	work, cancel := context.WithCancelCause(fetchedFrom(leased, domain))
	watching, unwatch := context.WithCancel(work)
	var watchers sync.WaitGroup
	watchers.Go(func() { p.report(watching, nil, progress) })
	watchers.Go(func() { r.guardDisk(watching, cancel) })
	err = r.attempts(work, p, i, pin)
	unwatch()
	watchers.Wait()
	full := errors.Is(context.Cause(work), errDiskFull)
	cancel(nil)
	switch {
	case full:
		// What it fetched is what fills the disk.
		return errors.Join(fmt.Errorf("%w: ask the operator for room, or choose a smaller image", errDiskFull), done())
	case ctx.Err() != nil:
		return ctx.Err() // and the lease stays: whoever comes next goes on from here
	case err == nil || isPermanent(err):
		return errors.Join(err, done())
	}
	return err
}

// attempts fetches, and fetches again after what may pass.
func (r *Runtime) attempts(ctx context.Context, p *pull, i Image, pin string) error {
	distrusted := false
	for failed := 0; ; {
		before := p.measure(ctx).Bytes
		err := r.fetch(ctx, p, i, pin)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errdefs.IsFailedPrecondition(err) {
			// What came is not what its digest says. It may be our own half of it,
			// from before a power cut: once more, from the beginning.
			p.discard(ctx)
			if distrusted {
				return refuse("the registry sends something else than the image's digest says; nothing of it was kept: push the image again", err)
			}
			distrusted = true
			continue
		}
		if err = registryError(err, i); err == nil || isPermanent(err) {
			return err
		}
		if p.measure(ctx).Bytes > before {
			failed = 0
		}
		if failed++; failed >= pullTries {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return refuse(partOnly, err)
			}
			return err
		}
		r.log.Info("a pull broke off and goes on", "image", pin, "err", err)
		select {
		case <-time.After(r.cfg.RetryPause << failed):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// discard throws away what has come of layers that are not here whole.
func (p *pull) discard(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.layers {
		_ = p.store.Abort(ctx, remotes.MakeRefKey(ctx, l)) // most are not there
	}
}

// fetch makes one attempt.
func (r *Runtime) fetch(ctx context.Context, p *pull, i Image, pin string) error {
	ref, err := parseName(i.Name)
	if err != nil {
		return err
	}
	resolver := r.registries.Resolver(i.Login)
	plan, err := r.survey(ctx, resolver, pin)
	if err != nil {
		return err
	}
	p.plan(plan.layers, plan.chains)
	if err := r.prove(ctx, plan, i); err != nil {
		return err
	}
	labels := map[string]string{usedLabel: now()}
	if i.Login == nil {
		labels[publicLabel] = "true"
	}
	_, err = r.client.Pull(ctx, pin,
		client.WithResolver(plan.resolver),
		client.WithPullUnpack,
		client.WithPullSnapshotter(snapshotter),
		client.WithPullLabels(labels),
		client.WithPullLabel(unprovenLabel, "true"),
		client.WithImageHandlerWrapper(r.noting(plan, ref)),
	)
	if err != nil {
		return err
	}
	if err := r.proven(ctx, plan, i, pin); err != nil {
		return err
	}
	if i.Login == nil {
		if err := r.publish(ctx, plan.layers); err != nil {
			return err
		}
	}
	return r.nameImage(ctx, i.Name, plan.target, labels)
}

// proven lets an image be used that was just fetched. Layers that others have
// unpacked meanwhile were not looked at before, and containerd takes them as they are.
func (r *Runtime) proven(ctx context.Context, s survey, i Image, pin string) error {
	all := r.client.ImageService()
	if err := r.prove(ctx, s, i); err != nil {
		forgotten := all.Delete(context.WithoutCancel(ctx), pin)
		if errdefs.IsNotFound(forgotten) {
			forgotten = nil
		}
		return errors.Join(err, forgotten)
	}
	_, err := all.Update(ctx, images.Image{Name: pin, Labels: map[string]string{unprovenLabel: ""}}, "labels."+unprovenLabel)
	return err
}

// withoutURLs has every part of an image fetched from its registry. A manifest may
// name other places, which containerd would ask past all our checks.
func withoutURLs(next images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		desc.URLs = nil
		children, err := next.Handle(ctx, desc)
		for n := range children {
			children[n].URLs = nil
		}
		return children, err
	})
}

// nameImage has the tag mean the image that was pulled for it, unless the operator
// has imported one of that name.
func (r *Runtime) nameImage(ctx context.Context, name string, target ocispec.Descriptor, labels map[string]string) error {
	full, err := fullName(name)
	if err != nil {
		return err
	}
	all := r.client.ImageService()
	record := images.Image{Name: full, Target: target, Labels: labels}
	for {
		_, err := all.Create(ctx, record)
		if !errdefs.IsAlreadyExists(err) {
			return err
		}
		had, err := all.Get(ctx, full)
		if err == nil && had.Labels[importedLabel] != "" {
			return nil
		}
		if err == nil {
			_, err = all.Update(ctx, record)
		}
		if !errdefs.IsNotFound(err) { // removed in between: create it
			return err
		}
	}
}
