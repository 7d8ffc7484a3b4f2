package runtime

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
)

// pullLabel is on the lease of a pull: what it is of, as pinnedName has it.
const pullLabel = "ecolink.pull"

// hold takes a lease that keeps containerd's garbage collector from what a pull
// of the image has fetched, of earlier attempts as well: they may have been cut
// off by the death of this process or of containerd. It lasts for halfPullKept, so
// that a pull that nobody goes on with is cleared away by containerd itself. done
// ends it; a pull that is to be gone on with just leaves it.
func (r *Runtime) hold(ctx context.Context, pin string) (leased context.Context, done func() error, err error) {
	all := r.client.LeasesService()
	old, err := all.List(ctx, fmt.Sprintf("labels.%q==%q", pullLabel, pin))
	if err != nil {
		return nil, nil, fmt.Errorf("list leases: %w", err)
	}
	lease, done, err := r.lease(ctx, leases.WithLabel(pullLabel, pin))
	if err != nil {
		return nil, nil, err
	}
	for _, before := range old {
		if err := r.inherit(ctx, before, lease); err != nil {
			return nil, nil, fmt.Errorf("go on with an earlier pull: %w", err)
		}
	}
	return leases.WithLease(ctx, lease.ID), done, nil
}

// lease takes one that lasts for halfPullKept, or until done.
func (r *Runtime) lease(ctx context.Context, more ...leases.Opt) (l leases.Lease, done func() error, err error) {
	all := r.client.LeasesService()
	l, err = all.Create(ctx, append(more, leases.WithRandomID(), leases.WithExpiration(halfPullKept))...)
	if err != nil {
		return l, nil, fmt.Errorf("take a lease: %w", err)
	}
	return l, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
		defer cancel()
		if err := all.Delete(ctx, l, leases.SynchronousDelete); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("end a lease: %w", err)
		}
		return nil
	}, nil
}

// inherit moves what one lease keeps to another. What has gone meanwhile is no loss.
func (r *Runtime) inherit(ctx context.Context, from, to leases.Lease) error {
	all := r.client.LeasesService()
	kept, err := all.ListResources(ctx, from)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, res := range kept {
		if err := all.AddResource(ctx, to, res); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if err := all.Delete(ctx, from); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// Times of leases.
const (
	halfPullKept = 24 * time.Hour   // what a pull that broke off has fetched
	leaseTimeout = 30 * time.Second // for containerd to end one, and to collect what is left over
)
