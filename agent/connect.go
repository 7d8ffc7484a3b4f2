package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
)

// maxTried bounds the addresses of one name that Connect tries.
const maxTried = 4

// Connect connects to a host and port as a program inside the workload would: to
// names from its /etc/hosts, or that its name servers know, asked from inside of
// its network. What the workload can't reach can't be reached so either.
func (b *Box) Connect(ctx context.Context, id, host string, port uint16) (net.Conn, error) {
	at := strconv.Itoa(int(port))
	if _, err := netip.ParseAddr(host); err == nil || host == "" || strings.EqualFold(host, "localhost") {
		return b.Dial(ctx, id, "tcp", net.JoinHostPort(host, at))
	}
	addresses, err := b.lookUp(ctx, id, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addresses[:min(len(addresses), maxTried)] {
		conn, err := b.Dial(ctx, id, "tcp", net.JoinHostPort(a, at))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// lookUp finds the addresses of a name as the workload does.
func (b *Box) lookUp(ctx context.Context, id, host string) ([]string, error) {
	file, err := b.runtime.Hosts(id)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if found := inHosts(file, host); len(found) > 0 {
		return found, nil
	}
	servers := b.network.Resolver()
	if len(servers) == 0 {
		return nil, fmt.Errorf("look up %s: the workload has no name server", host)
	}
	var next atomic.Uint32 // both kinds of address are asked for at once
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		server := servers[int(next.Add(1)-1)%len(servers)]
		// TCP alone: Dial makes no others, and every name server speaks it (RFC 7766).
		return b.Dial(ctx, id, "tcp", net.JoinHostPort(server, "53"))
	}}
	return resolver.LookupHost(ctx, strings.TrimSuffix(host, ".")+".") // no search domains of this machine
}

// inHosts finds a name in a file like /etc/hosts.
func inHosts(file io.Reader, host string) (found []string) {
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		if _, err := netip.ParseAddr(fields[0]); err != nil {
			continue
		}
		for _, name := range fields[1:] {
			if strings.EqualFold(name, strings.TrimSuffix(host, ".")) {
				found = append(found, fields[0])
			}
		}
	}
	return found
}
