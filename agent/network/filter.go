package network

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// filter is this network's nftables tables: one of family inet and one of
// family bridge, both bearing the network's name (see rules.go for what is in
// them). The kernel's tables are a function of what filter knows, so they can
// be put back whole when somebody empties the host's ruleset (reloading
// nftables.service does). Safe for concurrent use.
type filter struct {
	name     string
	bridge   string
	subnet   netip.Prefix
	allowTCP []uint16
	blocked  []netip.Prefix // of IPv4, that containers may not reach

	mu        sync.Mutex
	resolvers []resolver
	ports     map[string]filterPort // by namespace id
}

// filterPort is one container's port: what may be sent through it.
type filterPort struct {
	Interface string
	MAC       net.HardwareAddr
	Address   netip.Addr
}

// newFilter does not touch the kernel; the first apply does.
func newFilter(cfg Config) *filter {
	return &filter{
		name:     cfg.Name,
		bridge:   cfg.Bridge,
		subnet:   cfg.Subnet,
		allowTCP: cfg.AllowTCP,
		blocked:  append(metadataRanges(), cfg.Block...),
		ports:    make(map[string]filterPort),
	}
}

// port reads a record as a port.
func (r record) port() (filterPort, error) {
	mac, err := net.ParseMAC(r.MAC)
	if err != nil || len(mac) != 6 || !r.Address.Is4() || r.Interface == "" {
		return filterPort{}, fmt.Errorf("record %s: no port: interface %q, MAC %q, address %v", r.ID, r.Interface, r.MAC, r.Address)
	}
	return filterPort{Interface: r.Interface, MAC: mac, Address: r.Address}, nil
}

// remember is admit without the kernel, for use before the first apply.
func (f *filter) remember(rec record) error {
	port, err := rec.port()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ports[rec.ID] = port
	return nil
}

// admit lets the namespace's port send from its own addresses only. Before,
// the port could send anything, so no container may be in it yet.
func (f *filter) admit(rec record) error {
	port, err := rec.port()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ports[rec.ID] = port
	err = f.elements(func(conn *nftables.Conn, ports, sources *nftables.Set) error {
		return errors.Join(
			conn.SetAddElements(ports, []nftables.SetElement{port.portElement()}),
			conn.SetAddElements(sources, []nftables.SetElement{port.sourceElement()}),
		)
	})
	if errors.Is(err, unix.ENOENT) { // somebody removed the tables
		err = f.applyLocked()
	}
	if err != nil {
		return fmt.Errorf("filter port %s: %w", port.Interface, err)
	}
	return nil
}

// expel forgets the namespace's port. One that was never admitted is fine.
func (f *filter) expel(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	port, known := f.ports[id]
	if !known {
		return nil
	}
	delete(f.ports, id)
	err := f.elements(func(conn *nftables.Conn, ports, sources *nftables.Set) error {
		return errors.Join(
			conn.SetDeleteElements(ports, []nftables.SetElement{port.portElement()}),
			conn.SetDeleteElements(sources, []nftables.SetElement{port.sourceElement()}),
		)
	})
	if errors.Is(err, unix.ENOENT) { // the tables or the elements are not there
		err = f.applyLocked()
	}
	if err != nil {
		f.ports[id] = port
		return fmt.Errorf("unfilter port %s: %w", port.Interface, err)
	}
	return nil
}

// elements changes the members of both sets in one transaction.
func (f *filter) elements(change func(conn *nftables.Conn, ports, sources *nftables.Set) error) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	ports, sources := f.sets(f.bridgeTable())
	if err := change(conn, ports, sources); err != nil {
		return err
	}
	return conn.Flush()
}

// apply puts both tables into the kernel, replacing what is there, in one
// transaction: at no time is there less than one whole set of rules.
func (f *filter) apply() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applyLocked()
}

func (f *filter) applyLocked() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	f.dropTables(conn)
	for _, table := range []*nftables.Table{f.inetTable(), f.bridgeTable()} {
		conn.AddTable(table)
		if table.Family == nftables.TableFamilyBridge {
			ports, sources := f.sets(table)
			if err := errors.Join(conn.AddSet(ports, nil), conn.AddSet(sources, nil)); err != nil {
				return fmt.Errorf("nftables: %w", err)
			}
			for some := range slices.Chunk(slices.Sorted(maps.Keys(f.ports)), elementsAtOnce) {
				var portElements, sourceElements []nftables.SetElement
				for _, id := range some {
					portElements = append(portElements, f.ports[id].portElement())
					sourceElements = append(sourceElements, f.ports[id].sourceElement())
				}
				if err := errors.Join(conn.SetAddElements(ports, portElements), conn.SetAddElements(sources, sourceElements)); err != nil {
					return fmt.Errorf("nftables: %w", err)
				}
			}
		}
		for _, chain := range f.chains(table) {
			conn.AddChain(chain.Chain)
			for _, exprs := range chain.rules {
				conn.AddRule(&nftables.Rule{Table: table, Chain: chain.Chain, Exprs: exprs})
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: load the tables %s: %w", f.name, err)
	}
	return nil
}

// setResolvers changes which resolvers the rules let through. The caller
// applies.
func (f *filter) setResolvers(resolvers []resolver) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resolvers = resolvers
}

// snapshot answers a copy of the ports, by namespace id.
func (f *filter) snapshot() map[string]filterPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.ports)
}

// intact reports whether the kernel still has every chain, rule and port.
func (f *filter) intact() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	conn, err := nftables.New()
	if err != nil {
		return false, err
	}
	for _, table := range []*nftables.Table{f.inetTable(), f.bridgeTable()} {
		for _, chain := range f.chains(table) {
			rules, err := conn.GetRules(table, chain.Chain)
			if errors.Is(err, unix.ENOENT) || err == nil && len(rules) != len(chain.rules) {
				return false, nil
			}
			if err != nil {
				return false, fmt.Errorf("nftables: read chain %s: %w", chain.Name, err)
			}
		}
	}
	ports, sources := f.sets(f.bridgeTable())
	for _, set := range []*nftables.Set{ports, sources} {
		elements, err := conn.GetSetElements(set)
		if errors.Is(err, unix.ENOENT) || err == nil && len(elements) != len(f.ports) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("nftables: read set %s: %w", set.Name, err)
		}
	}
	return true, nil
}

// remove takes both tables out of the kernel, there or not.
func (f *filter) remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	f.dropTables(conn)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: remove the tables %s: %w", f.name, err)
	}
	return nil
}

// dropTables deletes both tables. Adding first makes deleting what is not
// there no error.
func (f *filter) dropTables(conn *nftables.Conn) {
	for _, table := range []*nftables.Table{f.inetTable(), f.bridgeTable()} {
		conn.AddTable(table)
		conn.DelTable(table)
	}
}

func (f *filter) inetTable() *nftables.Table {
	return &nftables.Table{Name: f.name, Family: nftables.TableFamilyINet}
}

func (f *filter) bridgeTable() *nftables.Table {
	return &nftables.Table{Name: f.name, Family: nftables.TableFamilyBridge}
}
