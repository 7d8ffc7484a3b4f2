package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/google/nftables"
)

// hostFirewall opens the host's own firewall for packets that containers send
// out and for the answers. Without one, nothing has to be opened: then it does
// nothing, and so leaves no empty iptables tables behind either. What
// containers may not do, filter forbids; nothing here can allow it.
//
//   - iptables (Docker, ufw, and what administrators write) often ends its
//     FORWARD chain in DROP. Two rules at its head let the bridge through.
//   - firewalld rejects forwarding between zones. The subnet joins the zone
//     "trusted", as the CNI firewall plugin does with each address.
//
// Both forget it when they are reloaded, so open is called again whenever
// rules on the host have changed. Safe for concurrent use.
type hostFirewall struct {
	name   string
	bridge string
	subnet netip.Prefix
	log    *slog.Logger

	mu      sync.Mutex
	trusted bool // firewalld has been told since its tables last changed
}

func newHostFirewall(cfg Config, log *slog.Logger) *hostFirewall {
	return &hostFirewall{name: cfg.Name, bridge: cfg.Bridge, subnet: cfg.Subnet, log: log}
}

// tablesChanged notes that tables came or went, so firewalld may have started
// anew.
func (h *hostFirewall) tablesChanged() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trusted = false
}

// open is idempotent.
func (h *hostFirewall) open(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	iptables, firewalld, err := h.present()
	if err != nil {
		return err
	}
	if iptables != "" {
		for _, rule := range h.rules() {
			if there, err := h.has(ctx, iptables, rule); err != nil {
				return err
			} else if there {
				continue
			}
			if _, err := run(ctx, iptables, append([]string{"-w", "5", "-I", "FORWARD"}, rule...)...); err != nil {
				return err
			}
			h.log.Info("opened the host's iptables for containers", "rule", strings.Join(rule, " "))
		}
	}
	if firewalld != "" && !h.trusted {
		if _, err := run(ctx, firewalld, "--zone=trusted", "--query-source="+h.subnet.String()); err != nil {
			if _, err := run(ctx, firewalld, "--zone=trusted", "--add-source="+h.subnet.String()); err != nil {
				return err
			}
			h.log.Info("added the container subnet to firewalld's trusted zone", "subnet", h.subnet.String())
		}
		h.trusted = true
	}
	return nil
}

// close takes back what open did, whether it did it or not.
func (h *hostFirewall) close(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	iptables, firewalld, err := h.present()
	if err != nil {
		return err
	}
	var errs []error
	if iptables != "" {
		for _, rule := range h.rules() {
			there, err := h.has(ctx, iptables, rule)
			if err == nil && there {
				_, err = run(ctx, iptables, append([]string{"-w", "5", "-D", "FORWARD"}, rule...)...)
			}
			errs = append(errs, err)
		}
	}
	if firewalld != "" {
		if _, err := run(ctx, firewalld, "--zone=trusted", "--query-source="+h.subnet.String()); err == nil {
			_, err = run(ctx, firewalld, "--zone=trusted", "--remove-source="+h.subnet.String())
			errs = append(errs, err)
		}
		h.trusted = false
	}
	return errors.Join(errs...)
}

// rules are our iptables rules for the FORWARD chain.
func (h *hostFirewall) rules() [][]string {
	comment := []string{"-m", "comment", "--comment", "network " + h.name, "-j", "ACCEPT"}
	return [][]string{
		append([]string{"-i", h.bridge}, comment...),
		append([]string{"-o", h.bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"}, comment...),
	}
}

// present answers the commands of the firewalls that are at work on this host,
// empty where one is not.
func (h *hostFirewall) present() (iptables, firewalld string, err error) {
	conn, err := nftables.New()
	if err != nil {
		return "", "", fmt.Errorf("nftables: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return "", "", fmt.Errorf("nftables: list tables: %w", err)
	}
	// iptables of the old kind has its tables named here.
	legacy, _ := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	wantIPTables := strings.Contains("\n"+string(legacy), "\nfilter\n")
	wantFirewalld := false
	for _, table := range tables {
		wantIPTables = wantIPTables || table.Family == nftables.TableFamilyIPv4 && table.Name == "filter"
		wantFirewalld = wantFirewalld || table.Name == "firewalld"
	}
	if wantIPTables {
		iptables = command("iptables")
	}
	if wantFirewalld {
		firewalld = command("firewall-cmd")
	}
	return iptables, firewalld, nil
}

func (h *hostFirewall) has(ctx context.Context, iptables string, rule []string) (bool, error) {
	status, err := run(ctx, iptables, append([]string{"-w", "5", "-C", "FORWARD"}, rule...)...)
	if status == 1 { // "no such rule"
		return false, nil
	}
	return err == nil, err
}

// command finds a program of the administrator's, whose folders are not always
// in a service's PATH.
func command(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	return ""
}

// run answers the exit status, and an error with what the program wrote unless
// that is 0.
func run(ctx context.Context, path string, args ...string) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err == nil {
		return 0, nil
	}
	err = fmt.Errorf("%s %s: %w: %s", path, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), err
	}
	return -1, err
}
