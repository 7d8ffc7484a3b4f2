package network

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Acquire gives the owner a namespace, the one that it has or another: a warm
// one within about a millisecond, else one made at once within some tens.
// Several are made in parallel. An owner is any name of 1 to MaxOwnerBytes
// bytes without NUL.
//
// When ctx ends while a namespace is being made, Acquire still completes it:
// the owner then has it, whoever asks next. Errors: ErrExhausted, ErrClosed.
func (n *Network) Acquire(ctx context.Context, owner string) (Namespace, error) {
	leave, err := n.enter(ctx, owner)
	if err != nil {
		return Namespace{}, fmt.Errorf("acquire network for %q: %w", owner, err)
	}
	defer leave()
	rec, err := n.acquire(ctx, owner)
	if err != nil {
		return Namespace{}, fmt.Errorf("acquire network for %q: %w", owner, err)
	}
	return n.namespace(rec), nil
}

func (n *Network) acquire(ctx context.Context, owner string) (record, error) {
	n.mu.Lock()
	rec, has := n.owned[owner]
	n.mu.Unlock()
	if has && n.usable(rec) {
		return rec, nil
	}
	if has { // half released, or somebody unmounted it or deleted its port
		if err := n.release(ctx, owner, rec); err != nil {
			return rec, err
		}
	}
	fresh, err := n.take(ctx)
	if err != nil {
		return fresh, err
	}
	rec, err = n.records.own(fresh, owner)
	if err != nil {
		return rec, errors.Join(err, n.discard(ctx, fresh))
	}
	n.mu.Lock()
	n.owned[owner] = rec
	n.mu.Unlock()
	return rec, nil
}

// usable reports whether an owner's namespace can still have a network. One
// whose cable was deleted cannot, even if a container runs in it.
func (n *Network) usable(rec record) bool {
	if rec.State != stateOwned || !n.alive(rec) {
		return false
	}
	port, err := findLink(rec.Interface)
	return err != nil || port != nil // in doubt it stays
}

// take answers a namespace that is nobody's: a warm one, or whichever comes
// first of the refiller's next and a turn to make one.
func (n *Network) take(ctx context.Context) (record, error) {
	defer n.poolChanged()
	for {
		var rec record
		select {
		case rec = <-n.warm:
		default:
			n.waiting.Add(1)
			select {
			case rec = <-n.warm:
				n.waiting.Add(-1)
			case n.making <- struct{}{}:
				rec, err := n.make(ctx)
				<-n.making
				n.waiting.Add(-1)
				return rec, err
			case <-ctx.Done():
				n.waiting.Add(-1)
				return rec, ctx.Err()
			}
		}
		// It may have lain there for days.
		if n.alive(rec) && n.bridge.attached(rec.ID, rec.Interface) {
			return rec, nil
		}
		n.log.Warn("a warm namespace was broken from outside; taking another", "namespace", rec.ID)
		if err := n.discard(ctx, rec); err != nil {
			n.log.Error("could not remove a broken namespace", "namespace", rec.ID, "err", err)
		}
	}
}

// Release takes the owner's namespace apart and frees its address. Processes
// still inside lose their network. An owner without one is fine. After an
// error the owner is still listed, and Release may be called again.
func (n *Network) Release(ctx context.Context, owner string) error {
	leave, err := n.enter(ctx, owner)
	if err != nil {
		return fmt.Errorf("release network of %q: %w", owner, err)
	}
	defer leave()
	n.mu.Lock()
	rec, has := n.owned[owner]
	n.mu.Unlock()
	if !has {
		return nil
	}
	if err := n.release(ctx, owner, rec); err != nil {
		return fmt.Errorf("release network of %q: %w", owner, err)
	}
	return nil
}

func (n *Network) release(ctx context.Context, owner string, rec record) error {
	left, err := n.remove(ctx, rec)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.owned[owner] = left
		return err
	}
	delete(n.owned, owner)
	return nil
}

// make makes a whole namespace and answers its record, in the state warm. The
// caller holds a place in n.making. It does not stop when ctx does: plugins
// stopped in the middle leave more to clear away than they had left to do.
func (n *Network) make(ctx context.Context) (record, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeTimeout)
	defer cancel()
	rec, err := n.records.begin("ns-" + strings.ToLower(rand.Text()))
	if err != nil {
		return rec, err
	}
	fail := func(err error) (record, error) {
		return rec, errors.Join(err, n.discard(ctx, rec))
	}
	if n.cfg.UserNamespaces {
		if rec.Range, err = n.takeRange(rec.ID); err != nil {
			return fail(err)
		}
	}
	// The plugin would make a bridge that is missing, but not as it has to be.
	if err := n.bridge.ensure(); err != nil {
		return fail(err)
	}
	if err := createNamespace(n.path(rec.ID), n.mapping(rec)); err != nil {
		return fail(err)
	}
	made, err := n.plugins.add(ctx, rec.ID, n.path(rec.ID))
	if err != nil {
		return fail(err)
	}
	rec.Address, rec.Gateway, rec.Interface, rec.MAC = made.Address, made.Gateway, made.Interface, made.MAC
	port, err := rec.port()
	if err != nil {
		return fail(err)
	}
	if err := n.bridge.attach(rec.ID, port); err != nil {
		return fail(err)
	}
	if err := n.filter.admit(rec); err != nil {
		return fail(err)
	}
	ready, err := n.records.ready(rec)
	if err != nil {
		return fail(err)
	}
	return ready, nil
}

// remove takes a namespace apart, whatever of it there is. On an error the
// record stays, in the state removing, and is answered for another try. Like
// make, it does not stop when ctx does.
func (n *Network) remove(ctx context.Context, rec record) (record, error) {
	n.removing <- struct{}{}
	defer func() { <-n.removing }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	rec, err := n.records.retire(rec)
	if err != nil {
		return rec, err
	}
	path := n.path(rec.ID)
	inside := path
	if !namespaceAlive(path) {
		inside = "" // the plugins free the address and leave the rest
	}
	// In this order: the address may only be free again when nothing answers
	// to it any more, so the plugin, which frees it, comes after the port.
	if err := n.bridge.removePort(rec.ID, rec.Interface); err != nil {
		return rec, err
	}
	if err := n.filter.expel(rec.ID); err != nil {
		return rec, err
	}
	if err := n.plugins.del(ctx, rec.ID, inside); err != nil {
		return rec, err
	}
	if err := removeNamespace(path); err != nil {
		return rec, err
	}
	if err := n.userFiles(rec.ID).Remove(); err != nil {
		return rec, err
	}
	if err := n.records.forget(rec); err != nil {
		return rec, err
	}
	n.freeRange(rec)
	return rec, nil
}

// discard removes a namespace that is nobody's. If it will not go, it is tried
// again now and then (retryStuck).
func (n *Network) discard(ctx context.Context, rec record) error {
	left, err := n.remove(ctx, rec)
	if err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.stuck[left.ID] = left
	}
	return err
}

// retryStuck removes what would not go before, until ctx ends. One caller at a
// time.
func (n *Network) retryStuck(ctx context.Context) error {
	n.mu.Lock()
	all := slices.Collect(maps.Values(n.stuck))
	n.mu.Unlock()
	var errs []error
	for _, rec := range all {
		if ctx.Err() != nil {
			break
		}
		_, err := n.remove(ctx, rec)
		if err == nil {
			n.mu.Lock()
			delete(n.stuck, rec.ID)
			n.mu.Unlock()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeAll removes several at once and answers those that would not go.
func (n *Network) removeAll(ctx context.Context, all []record) (left []record, err error) {
	var (
		mu   sync.Mutex
		work sync.WaitGroup
		errs []error
	)
	for _, rec := range all {
		work.Go(func() {
			rec, err := n.remove(ctx, rec)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				left = append(left, rec)
				errs = append(errs, fmt.Errorf("remove namespace %s: %w", rec.ID, err))
			}
		})
	}
	work.Wait()
	return left, errors.Join(errs...)
}

// refill keeps the pool full until ctx ends. It makes one at a time, never
// while an Acquire waits, and gives a launch under way the processors first,
// unless half the pool is gone.
func (n *Network) refill(ctx context.Context) {
	retry := refillRetryMin
	for ctx.Err() == nil {
		if len(n.warm) >= n.cfg.Warm || n.waiting.Load() > 0 {
			select {
			case <-ctx.Done():
			case <-n.taken:
				if len(n.warm) > n.cfg.Warm/2 {
					n.quiet(ctx)
				}
			}
			continue
		}
		n.making <- struct{}{}
		rec, err := n.make(ctx)
		<-n.making
		if err != nil {
			n.log.Error("could not prepare a network namespace", "err", err, "retry_in", retry)
			sleep(ctx, retry)
			retry = min(2*retry, refillRetryMax)
			continue
		}
		retry = refillRetryMin
		n.warm <- rec // has room: nobody else adds
	}
}

// quiet waits until nobody has taken from the pool for a while, or nothing is
// left in it: what takes networks starts containers, and is not to be slowed
// down by making the next ones before they are needed.
func (n *Network) quiet(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.taken:
			if len(n.warm) == 0 {
				return
			}
		case <-time.After(refillQuiet):
			return
		}
	}
}

// poolChanged wakes the refiller.
func (n *Network) poolChanged() {
	select {
	case n.taken <- struct{}{}:
	default:
	}
}

// turn is a lock on one owner.
type turn struct {
	held  chan struct{} // has room for one
	users int           // holding or waiting, under Network.mu
}

// enter begins a call for the owner, after earlier ones for the same have
// ended. leave ends it.
func (n *Network) enter(ctx context.Context, owner string) (leave func(), err error) {
	if owner == "" || len(owner) > MaxOwnerBytes || strings.ContainsRune(owner, 0) {
		return nil, fmt.Errorf("an owner is 1 to %d bytes without NUL", MaxOwnerBytes)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ErrClosed
	}
	t := n.turns[owner]
	if t == nil {
		t = &turn{held: make(chan struct{}, 1)}
		n.turns[owner] = t
	}
	t.users++
	n.calls.Add(1)
	depart := func() { // under n.mu
		if t.users--; t.users == 0 {
			delete(n.turns, owner)
		}
		n.calls.Done()
	}
	n.mu.Unlock()
	select {
	case t.held <- struct{}{}:
		err = nil
	case <-ctx.Done():
		err = ctx.Err()
	}
	n.mu.Lock()
	if err != nil {
		depart()
		return nil, err
	}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		<-t.held
		depart()
	}, nil
}
