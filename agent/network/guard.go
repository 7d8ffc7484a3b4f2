package network

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ruleWatch hears of every change to the host's nftables rules (iptables of
// today included). Changes to the members of sets are not told: they are our
// own daily work.
type ruleWatch struct {
	conn    *mdnetlink.Conn
	changed chan struct{} // has room for one: told again only after it was taken
	tables  atomic.Bool   // since last asked, whole tables came or went
	closed  atomic.Bool
}

func newRuleWatch() (*ruleWatch, error) {
	conn, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &ruleWatch{conn: conn, changed: make(chan struct{}, 1)}, nil
}

// run returns after close.
func (w *ruleWatch) run() {
	for {
		messages, err := w.conn.Receive()
		if err != nil && w.closed.Load() {
			return // what a closed socket answers depends on when it was closed
		}
		interesting := false
		if err != nil {
			// Too many changes to queue: take them for one big one.
			w.tables.Store(true)
			interesting = true
			if !errors.Is(err, unix.ENOBUFS) {
				time.Sleep(watchSettle) // whatever it is, not in a tight loop
			}
		}
		for _, message := range messages {
			switch message.Header.Type & 0xff {
			case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE:
				w.tables.Store(true)
				interesting = true
			case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE,
				unix.NFT_MSG_NEWSET, unix.NFT_MSG_DELSET:
				interesting = true
			}
		}
		if interesting {
			select {
			case w.changed <- struct{}{}:
			default:
			}
		}
	}
}

func (w *ruleWatch) close() {
	w.closed.Store(true)
	_ = w.conn.Close()
}

// guard puts back what others on the host remove (reloading a firewall may
// empty the whole ruleset), at once when the kernel announces it, and looks at
// the rest now and then. It ends with ctx.
func (n *Network) guard(ctx context.Context, watch *ruleWatch) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch.changed:
			n.report("firewall rules", n.repairRules(ctx, watch.tables.Swap(false)))
			// One burst of changes is one check more, not one each.
			sleep(ctx, watchSettle)
		case <-ticker.C:
			n.report("bridge", n.repairLinks())
			n.report("firewall rules", n.repairRules(ctx, false))
		}
	}
}

func (n *Network) report(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		n.log.Error("could not put the network right", "part", what, "err", err)
	}
}

// repairRules restores our tables and the host firewall's openings.
func (n *Network) repairRules(ctx context.Context, tablesChanged bool) error {
	intact, err := n.filter.intact()
	if err == nil && !intact {
		if err = n.filter.apply(); err == nil {
			n.log.Warn("somebody changed the network's nftables rules; they are restored", "tables", n.cfg.Name)
		}
	}
	if tablesChanged {
		n.host.tablesChanged()
	}
	return errors.Join(err, n.host.open(ctx))
}

// repairLinks restores the bridge and its ports, and follows the host's
// nameservers.
func (n *Network) repairLinks() error {
	if err := n.bridge.ensure(); err != nil {
		return err
	}
	for id, port := range n.filter.snapshot() {
		if n.bridge.attached(id, port.Interface) {
			continue
		}
		// One that has just been removed is no news; a port that somebody
		// deleted cannot be brought back.
		if err := n.bridge.attach(id, port); err == nil {
			n.log.Warn("a port was cut off from the bridge; it is attached again", "port", port.Interface)
		}
	}
	found, _ := chooseResolvers(n.cfg.DNS, resolverFiles())
	n.mu.Lock()
	same := slices.Equal(found, n.resolvers)
	n.mu.Unlock()
	if same {
		return nil
	}
	n.filter.setResolvers(found)
	if err := n.filter.apply(); err != nil {
		return err // and no container is told of one it cannot reach
	}
	n.mu.Lock()
	n.resolvers = found
	n.mu.Unlock()
	n.log.Info("nameservers for containers changed", "nameservers", n.Resolver())
	return nil
}
