package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ecolink/agent/userns"
)

// Namespace is one owner's network namespace.
type Namespace struct {
	Owner   string
	Path    string     // a file to join it by; valid until Release
	Address netip.Addr // the container's
	Gateway netip.Addr // the box, as the container sees it
	// User is the user namespace that it belongs to, valid as long; the zero
	// Mapping is the host's own.
	User userns.Mapping
}

// Network makes and keeps the namespaces of one box. Its methods are safe for
// concurrent use; those for the same owner wait for each other.
type Network struct {
	cfg     Config
	log     *slog.Logger
	locks   locks
	records records
	bridge  *bridge
	plugins *plugins
	filter  *filter
	host    *hostFirewall

	warm     chan record   // ready to be taken; only the refiller adds
	making   chan struct{} // held while a namespace is made
	removing chan struct{} // held while one is taken apart
	waiting  atomic.Int32  // Acquires that found no warm one: the refiller steps back
	taken    chan struct{} // tells the refiller that the pool has changed

	mu        sync.Mutex
	closed    bool
	stuck     map[string]record       // by id; nobody's, would not go, and is tried again
	owned     map[string]record       // by owner; one in stateRemoving failed to go and is tried again
	turns     map[string]*turn        // by owner, while a call for it is under way
	ranges    map[userns.Range]string // of user namespaces, and the namespace that has each
	resolvers []resolver
	calls     sync.WaitGroup // Acquire and Release under way

	stop  context.CancelFunc // ends the loops
	loops sync.WaitGroup     // refiller, guard, watcher, remover of what is stuck
}

// New builds the network cfg describes, or takes over the one that an earlier
// process left in cfg.RunDir: owned namespaces stay with their owners, warm
// ones go back to the pool, and what was half there is taken apart. Changing
// the name, bridge or subnet needs a RunDir without owned namespaces.
//
// ctx bounds only this call. The caller must Close the network. Errors:
// ErrPluginMissing, ErrInUse.
func New(ctx context.Context, cfg Config, log *slog.Logger) (*Network, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("network %s: %w", cfg.Name, err)
	}
	held, err := takeLocks(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", cfg.Name, err)
	}
	n, err := assemble(cfg, held, log)
	if err == nil {
		err = n.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("network %s: %w", cfg.Name, err), held.Close())
	}
	return n, nil
}

// assemble puts the parts together without touching the host.
func assemble(cfg Config, held locks, log *slog.Logger) (*Network, error) {
	br := &bridge{name: cfg.Bridge, owner: cfg.Name, subnet: cfg.Subnet}
	plugins, err := newPlugins(cfg, br.mtu(), held.dir)
	if err != nil {
		return nil, err
	}
	return &Network{
		cfg:      cfg,
		log:      log,
		locks:    held,
		records:  records{dir: filepath.Join(cfg.RunDir, "records")},
		bridge:   br,
		plugins:  plugins,
		filter:   newFilter(cfg),
		host:     newHostFirewall(cfg, log),
		warm:     make(chan record, cfg.Warm),
		making:   make(chan struct{}, parallelWork),
		removing: make(chan struct{}, parallelWork),
		taken:    make(chan struct{}, 1),
		stuck:    make(map[string]record),
		owned:    make(map[string]record),
		turns:    make(map[string]*turn),
		ranges:   make(map[userns.Range]string),
	}, nil
}

// start brings the host to what the records say and starts the loops. One that
// fails leaves what it found, and nothing where it found nothing.
func (n *Network) start(ctx context.Context) (err error) {
	old, err := readClaim(n.cfg.RunDir)
	if err != nil {
		return err
	}
	if old != (claim{}) && old != n.cfg.claim() {
		if err := n.clearOld(ctx, old); err != nil {
			return fmt.Errorf("change from %v: %w", old, err)
		}
		old = claim{}
	}
	all, err := n.records.load()
	if err != nil {
		return err
	}
	if old == (claim{}) {
		if err := n.bridge.available(); err != nil {
			return err
		}
		if len(all) == 0 {
			defer func() {
				if err != nil {
					err = errors.Join(err, n.dismantle(context.WithoutCancel(ctx)))
				}
			}()
		}
		if err := writeClaim(n.cfg.RunDir, n.cfg.claim()); err != nil {
			return err
		}
	}
	for _, dir := range []string{n.path(""), n.userDir(), n.plugins.leases} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := n.records.prepare(); err != nil {
		return err
	}
	if err := n.bridge.ensure(); err != nil {
		return err
	}
	var fallback bool // chosen now that the bridge's own address can be among them
	n.resolvers, fallback = chooseResolvers(n.cfg.DNS, resolverFiles())
	n.filter.setResolvers(n.resolvers)
	if err := n.recover(ctx, all); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if err := n.filter.apply(); err != nil {
		return err
	}
	// The host's firewall is its administrator's: if it cannot be opened,
	// containers may lack egress, but everything else works.
	if err := n.host.open(ctx); err != nil {
		n.log.Error("could not open the host's firewall for containers", "err", err)
	}
	if fallback {
		n.log.Warn("the host names no nameserver that containers can reach: they get public ones; configure nameservers for containers to choose",
			"nameservers", FallbackResolver1+" "+FallbackResolver2)
	}
	watch, err := newRuleWatch()
	if err != nil {
		return err
	}
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = func() { stop(); watch.close() }
	n.loops.Go(watch.run)
	n.loops.Go(func() { n.guard(loops, watch) })
	n.loops.Go(func() { n.refill(loops) })
	n.loops.Go(func() {
		for sleep(loops, watchInterval) {
			n.report("namespaces that would not go", n.retryStuck(loops))
		}
	})
	return nil
}

// clearOld removes what this RunDir held under another configuration.
func (n *Network) clearOld(ctx context.Context, old claim) error {
	cfg := n.cfg
	cfg.Name, cfg.Bridge, cfg.Subnet = old.Name, old.Bridge, old.Subnet
	before, err := assemble(cfg, n.locks, n.log)
	if err != nil {
		return err
	}
	if err := before.records.prepare(); err != nil {
		return err
	}
	all, err := before.records.load()
	if err != nil {
		return err
	}
	for _, rec := range all {
		if rec.State == stateOwned && namespaceAlive(n.path(rec.ID)) {
			return fmt.Errorf("%w: namespace of %s: release all namespaces before changing the network's name, bridge or subnet", ErrInUse, rec.Owner)
		}
	}
	if _, err := before.removeAll(ctx, all); err != nil {
		return err
	}
	return before.dismantle(ctx)
}

// Lookup answers the owner's namespace if it has one that still exists.
func (n *Network) Lookup(owner string) (Namespace, bool) {
	n.mu.Lock()
	rec, ok := n.owned[owner]
	n.mu.Unlock()
	if !ok || rec.State != stateOwned || !namespaceAlive(n.path(rec.ID)) {
		return Namespace{}, false
	}
	return n.namespace(rec), true
}

// Owners answers all owners in order, including one whose Release failed and
// has to be called again.
func (n *Network) Owners() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.owned))
}

// Resolver answers the nameservers for a container's resolv.conf. They can
// change while the host runs.
func (n *Network) Resolver() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	servers := make([]string, 0, len(n.resolvers))
	for _, r := range n.resolvers {
		servers = append(servers, r.Address.String())
	}
	return servers
}

// Close ends the background work and the calls under way and removes the warm
// namespaces. Owned ones keep working, and the next New takes them over. If
// there are none, everything that this network made on the host goes too,
// save RunDir with its lock file and the host's IPv4 forwarding. What fails to
// go is in the error, and the next New finds it. Close does not stop halfway
// when ctx ends. Calling it again does nothing.
func (n *Network) Close(ctx context.Context) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	n.mu.Unlock()
	n.stop()
	n.loops.Wait()
	n.calls.Wait()

	ctx = context.WithoutCancel(ctx)
	doomed := slices.Collect(maps.Values(n.stuck)) // nobody else is here any more
	for len(n.warm) > 0 {
		doomed = append(doomed, <-n.warm)
	}
	owned := 0
	for _, rec := range n.owned {
		if rec.State == stateRemoving {
			doomed = append(doomed, rec)
		} else {
			owned++
		}
	}
	_, err := n.removeAll(ctx, doomed)
	if owned == 0 && err == nil {
		err = n.dismantle(ctx)
	}
	return errors.Join(err, n.locks.Close())
}

// dismantle removes what is shared by all namespaces; there must be none left.
func (n *Network) dismantle(ctx context.Context) error {
	err := errors.Join(n.filter.remove(), n.host.close(ctx), n.bridge.remove())
	if err != nil {
		return err // with the claim still there, for the next New
	}
	// Records outlive what they stand for, and the claim is the last.
	for _, part := range []string{n.path(""), n.userDir(), filepath.Join(n.cfg.RunDir, "cni"), n.records.dir, claimFile(n.cfg.RunDir)} {
		if err := os.RemoveAll(part); err != nil {
			return err
		}
	}
	return nil
}

// path is where the namespace id is mounted.
func (n *Network) path(id string) string { return filepath.Join(n.cfg.RunDir, "netns", id) }

func (n *Network) namespace(rec record) Namespace {
	return Namespace{Owner: rec.Owner, Path: n.path(rec.ID), Address: rec.Address, Gateway: rec.Gateway, User: n.mapping(rec)}
}

// sleep answers false when ctx ended it.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
