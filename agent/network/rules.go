package network

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The two tables, as nft would print them (B the bridge, S the subnet):
//
//	table inet NAME {
//	  chain ports       { iifgroup PORTGROUP drop }
//	  chain input       { iifname != B accept
//	                      ct state established,related accept
//	                      meta l4proto icmp accept
//	                      ip daddr RESOLVER udp dport 53 accept     each resolver that is the host
//	                      ip daddr RESOLVER tcp dport 53 accept
//	                      tcp dport PORT accept                     each of AllowTCP
//	                      reject with icmpx admin-prohibited }
//	  chain forward     { iifname B oifname B drop
//	                      oifname B ct state established,related accept
//	                      oifname B drop
//	                      iifname B ct status dnat reject
//	                      iifname B meta nfproto ipv6 reject
//	                      iifname B ip daddr RESOLVER udp dport 53 accept   each resolver in a blocked range
//	                      iifname B ip daddr RESOLVER tcp dport 53 accept
//	                      iifname B ip daddr BLOCKED reject }               each of metadataRanges and Block
//	  chain postrouting { ip saddr S oifname != B masquerade }
//	}
//	table bridge NAME {
//	  set ports         { PORT, … }
//	  set sources       { PORT . MAC . ADDRESS, … }
//	  chain prerouting  { iifname != @ports accept
//	                      ether type ip  iifname . ether saddr . ip saddr @sources accept
//	                      ether type arp iifname . ether saddr . arp saddr ip @sources accept
//	                      drop }
//	}
//
// The chain ports is for frames to link-local group addresses (01:80:c2:00:00:0X).
// The bridge hands them to the host as if they had come in by the port itself,
// past the bridge family's hooks and every rule about the bridge. Nothing that
// is meant for a container comes in that way.
//
// "accept" only ends our own chain; a drop is final whatever other tables say.
// So these rules can forbid what the host's firewall allows, and not the
// reverse (that is hostFirewall's part).
//
// Rejecting rather than dropping lets a program inside fail at once instead of
// waiting for a time-out.
type filterChain struct {
	*nftables.Chain
	rules [][]expr.Any
}

// Ahead of the host's own filter chains (priority 0), which may be long.
const (
	inetFilterPriority   nftables.ChainPriority = -10
	portsFilterPriority  nftables.ChainPriority = -450 // even of defragmentation
	bridgeFilterPriority nftables.ChainPriority = -300
)

// ctStatusDNAT is IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const ctStatusDNAT = 1 << 5

// setIDs tell sets of one transaction apart; the library would count them in
// a variable that is not safe for concurrent use.
const (
	portsSetID   = 1
	sourcesSetID = 2
)

// Registers of a lookup with a key of three parts: an interface name fills the
// first register, whose room is that of four 32-bit ones (8 to 11); a MAC
// takes two of those, an IPv4 address one.
const (
	firstRegister   = unix.NFT_REG_1
	macRegister     = unix.NFT_REG32_00 + 4
	addressRegister = unix.NFT_REG32_00 + 6
)

// metadataRanges are where clouds answer any program on the machine with the
// machine's credentials, or take its orders. There are IPv6 ones as well
// (fd00:ec2::254 and link-local ones), which the rule against all of IPv6 covers.
func metadataRanges() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("169.254.0.0/16"),     // link-local; 169.254.169.254 is most clouds'
		netip.MustParsePrefix("168.63.129.16/32"),   // Azure's WireServer, a nameserver too
		netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud's metadata
		netip.MustParsePrefix("192.0.0.192/32"),     // Oracle Cloud's older metadata address
	}
}

func (f *filter) chains(table *nftables.Table) []filterChain {
	if table.Family == nftables.TableFamilyBridge {
		return []filterChain{{chain(table, "prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, bridgeFilterPriority), f.antiSpoofRules(table)}}
	}
	return []filterChain{
		{chain(table, "ports", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, portsFilterPriority), [][]expr.Any{
			match(compare(&expr.Meta{Key: expr.MetaKeyIIFGROUP, Register: firstRegister}, expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(portGroup)), drop()),
		}},
		{chain(table, "input", nftables.ChainTypeFilter, nftables.ChainHookInput, inetFilterPriority), f.inputRules()},
		{chain(table, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, inetFilterPriority), f.forwardRules()},
		{chain(table, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource), [][]expr.Any{
			match(from(f.subnet), oifname(expr.CmpOpNeq, f.bridge), to(&expr.Masq{})),
		}},
	}
}

func (f *filter) inputRules() [][]expr.Any {
	rules := [][]expr.Any{
		match(iifname(expr.CmpOpNeq, f.bridge), accept()),
		match(ctEstablished(), accept()),
		match(protocol(unix.IPPROTO_ICMP), accept()),
	}
	for _, r := range f.resolvers {
		if r.Local {
			rules = append(rules,
				match(destination(netip.PrefixFrom(r.Address, 32)), protocol(unix.IPPROTO_UDP), port(53), accept()),
				match(destination(netip.PrefixFrom(r.Address, 32)), protocol(unix.IPPROTO_TCP), port(53), accept()))
		}
	}
	for _, p := range f.allowTCP {
		rules = append(rules, match(protocol(unix.IPPROTO_TCP), port(p), accept()))
	}
	return append(rules, match(reject()))
}

func (f *filter) forwardRules() [][]expr.Any {
	in := func() []expr.Any { return iifname(expr.CmpOpEq, f.bridge) }
	out := func() []expr.Any { return oifname(expr.CmpOpEq, f.bridge) }
	rules := [][]expr.Any{
		match(in(), out(), drop()),
		match(out(), ctEstablished(), accept()),
		match(out(), drop()),
		match(in(), ctHas(expr.CtKeySTATUS, ctStatusDNAT), reject()),
		// No port may send IPv6 (see antiSpoofRules); this holds for a moment
		// without the other table, too.
		match(in(), family(unix.NFPROTO_IPV6), reject()),
	}
	for _, r := range f.resolvers {
		if !r.Local && slices.ContainsFunc(f.blocked, func(p netip.Prefix) bool { return p.Contains(r.Address) }) {
			rules = append(rules,
				match(in(), destination(netip.PrefixFrom(r.Address, 32)), protocol(unix.IPPROTO_UDP), port(53), accept()),
				match(in(), destination(netip.PrefixFrom(r.Address, 32)), protocol(unix.IPPROTO_TCP), port(53), accept()))
		}
	}
	for _, p := range f.blocked {
		rules = append(rules, match(in(), destination(p), reject()))
	}
	return rules
}

func (f *filter) antiSpoofRules(table *nftables.Table) [][]expr.Any {
	ports, sources := f.sets(table)
	// From a frame's sender, the interface it came in by, its MAC and its
	// IPv4 address, which lies at another offset in IPv4 and in ARP.
	sender := func(addressOffset uint32) []expr.Any {
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: firstRegister},
			&expr.Payload{DestRegister: macRegister, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
			&expr.Payload{DestRegister: addressRegister, Base: expr.PayloadBaseNetworkHeader, Offset: addressOffset, Len: 4},
			&expr.Lookup{SourceRegister: firstRegister, SetName: sources.Name, SetID: sources.ID},
		}
	}
	return [][]expr.Any{
		match(to(
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: firstRegister},
			&expr.Lookup{SourceRegister: firstRegister, SetName: ports.Name, SetID: ports.ID, Invert: true},
		), accept()),
		match(etherType(unix.ETH_P_IP), sender(12), accept()),
		match(etherType(unix.ETH_P_ARP), sender(14), accept()),
		match(drop()),
	}
}

func (f *filter) sets(table *nftables.Table) (ports, sources *nftables.Set) {
	ports = &nftables.Set{Table: table, ID: portsSetID, Name: "ports", KeyType: nftables.TypeIFName}
	sources = &nftables.Set{Table: table, ID: sourcesSetID, Name: "sources", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIPAddr)}
	return ports, sources
}

func (p filterPort) portElement() nftables.SetElement {
	return nftables.SetElement{Key: interfaceName(p.Interface)}
}

func (p filterPort) sourceElement() nftables.SetElement {
	key := append(interfaceName(p.Interface), p.MAC...)
	key = append(key, 0, 0) // each part is padded to a multiple of four bytes
	return nftables.SetElement{Key: append(key, p.Address.AsSlice()...)}
}

// What follows are words for the expressions above.

func chain(table *nftables.Table, name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	return &nftables.Chain{Table: table, Name: name, Type: kind, Hooknum: hook, Priority: &priority, Policy: &policy}
}

func match(parts ...[]expr.Any) (all []expr.Any) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

func to(exprs ...expr.Any) []expr.Any { return exprs }

func accept() []expr.Any { return to(&expr.Verdict{Kind: expr.VerdictAccept}) }
func drop() []expr.Any   { return to(&expr.Verdict{Kind: expr.VerdictDrop}) }

func reject() []expr.Any {
	return to(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
}

// compare loads a value into a register and compares it.
func compare(load expr.Any, op expr.CmpOp, value []byte) []expr.Any {
	return to(load, &expr.Cmp{Register: firstRegister, Op: op, Data: value})
}

func iifname(op expr.CmpOp, name string) []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: firstRegister}, op, interfaceName(name))
}

func oifname(op expr.CmpOp, name string) []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: firstRegister}, op, interfaceName(name))
}

func family(number byte) []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: firstRegister}, expr.CmpOpEq, []byte{number})
}

func protocol(number byte) []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister}, expr.CmpOpEq, []byte{number})
}

func etherType(number uint16) []expr.Any {
	return compare(&expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseLLHeader, Offset: 12, Len: 2},
		expr.CmpOpEq, binaryutil.BigEndian.PutUint16(number))
}

func port(number uint16) []expr.Any {
	return compare(&expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		expr.CmpOpEq, binaryutil.BigEndian.PutUint16(number))
}

func from(prefix netip.Prefix) []expr.Any        { return inPrefix(12, prefix) }
func destination(prefix netip.Prefix) []expr.Any { return inPrefix(16, prefix) }

// inPrefix matches the IPv4 address at offset of the network header.
func inPrefix(offset uint32, prefix netip.Prefix) []expr.Any {
	mask := binaryutil.BigEndian.PutUint32(^uint32(0) << (32 - prefix.Bits()))
	return match(
		family(unix.NFPROTO_IPV4),
		to(
			&expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
			&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: 4, Mask: mask, Xor: make([]byte, 4)},
			&expr.Cmp{Register: firstRegister, Op: expr.CmpOpEq, Data: prefix.Masked().Addr().AsSlice()},
		))
}

func ctEstablished() []expr.Any {
	return ctHas(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// ctHas matches a connection that has any of the bits.
func ctHas(key expr.CtKey, bits uint32) []expr.Any {
	return to(
		&expr.Ct{Register: firstRegister, Key: key},
		&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Register: firstRegister, Op: expr.CmpOpNeq, Data: make([]byte, 4)},
	)
}

// interfaceName is the name as the kernel compares it, in 16 bytes.
func interfaceName(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
}
