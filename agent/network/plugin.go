package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// containerInterface is what the network is called inside a container.
const containerInterface = "eth0"

// cniVersion is the oldest version of the CNI protocol that has what is
// needed (a result with interfaces). Ubuntu 22.04 ships plugins 0.9.1, which
// speak nothing newer.
const cniVersion = "0.4.0"

// plugins runs the CNI plugins. Calls for different ids may run at once.
//
// libcni is used directly: go-cni, which wraps it, keeps its cache in
// /var/lib/cni whatever one says, and state there would outlive a reboot.
//
// The chain is the bridge plugin alone, with host-local for addresses.
// Masquerading and the opening of the host's firewall are the same for all
// containers, so they are rules about the bridge, made once (filter,
// hostFirewall). As plugins (ipMasq, firewall) they would run iptables some
// twenty times for each container: measured, 50 ms instead of 12 to add and
// 115 ms instead of 20 to remove, and more with each rule on the host.
type plugins struct {
	cni    *libcni.CNIConfig
	list   *libcni.NetworkConfigList
	bridge string
	leases string // where host-local keeps one file per leased address
}

// attachment is what the plugins made.
type attachment struct {
	Address   netip.Addr
	Gateway   netip.Addr
	Interface string // host's end
	MAC       string // container's end
}

// newPlugins looks for the plugins and describes the network to them. Plugin
// processes inherit lock, so it stays held until the last of them has ended.
func newPlugins(cfg Config, mtu int, lock *os.File) (*plugins, error) {
	for _, name := range []string{"bridge", "host-local"} {
		if _, err := invoke.FindInPath(name, cfg.PluginDirs); err != nil {
			return nil, fmt.Errorf("%w: %q is in none of the folders [%s]: install the package containernetworking-plugins (Debian, Ubuntu, Fedora, RHEL)",
				ErrPluginMissing, name, strings.Join(cfg.PluginDirs, " "))
		}
	}
	dir := filepath.Join(cfg.RunDir, "cni")
	leases := filepath.Join(dir, "leases")
	text, err := json.Marshal(map[string]any{
		"cniVersion": cniVersion,
		"name":       cfg.Name,
		"plugins": []any{map[string]any{
			"type":             "bridge",
			"bridge":           cfg.Bridge,
			"isGateway":        true,
			"isDefaultGateway": true,
			"hairpinMode":      false,
			"ipMasq":           false,
			"mtu":              mtu,
			"ipam": map[string]any{
				"type":    "host-local",
				"dataDir": leases,
				"ranges":  []any{[]any{map[string]any{"subnet": cfg.Subnet.String(), "gateway": cfg.gateway().String()}}},
			},
		}},
	})
	if err != nil {
		return nil, err
	}
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		return nil, fmt.Errorf("describe the network to CNI: %w", err)
	}
	return &plugins{
		cni:    libcni.NewCNIConfigWithCacheDir(cfg.PluginDirs, dir, &pluginExec{lock: lock}),
		list:   list,
		bridge: cfg.Bridge,
		leases: filepath.Join(leases, cfg.Name),
	}, nil
}

// add connects the namespace at path to the bridge.
func (p *plugins) add(ctx context.Context, id, path string) (attachment, error) {
	var a attachment
	answer, err := p.cni.AddNetworkList(ctx, p.list, &libcni.RuntimeConf{ContainerID: id, NetNS: path, IfName: containerInterface})
	if err != nil {
		// host-local gives this case no code of its own.
		if strings.Contains(err.Error(), "no IP addresses available") {
			return a, fmt.Errorf("%w: release namespaces or configure a larger subnet: %w", ErrExhausted, err)
		}
		return a, fmt.Errorf("CNI add: %w", err)
	}
	result, err := types100.NewResultFromResult(answer)
	if err != nil {
		return a, fmt.Errorf("CNI add: %w", err)
	}
	for _, link := range result.Interfaces {
		switch {
		case link.Sandbox != "":
			a.MAC = link.Mac
		case link.Name != p.bridge:
			a.Interface = link.Name
		}
	}
	for _, ip := range result.IPs {
		a.Address, _ = netip.AddrFromSlice(ip.Address.IP.To4())
		a.Gateway, _ = netip.AddrFromSlice(ip.Gateway.To4())
	}
	if a.MAC == "" || a.Interface == "" || !a.Address.IsValid() || !a.Gateway.IsValid() {
		return a, fmt.Errorf("CNI add: the bridge plugin's answer lacks an interface or address: %v", result)
	}
	return a, nil
}

// del disconnects the namespace and frees its address. An empty path means
// that the namespace is gone. What is not there is no error.
func (p *plugins) del(ctx context.Context, id, path string) error {
	err := p.cni.DelNetworkList(ctx, p.list, &libcni.RuntimeConf{ContainerID: id, NetNS: path, IfName: containerInterface})
	if err != nil {
		return fmt.Errorf("CNI del: %w", err)
	}
	return nil
}

// freeLeases drops leases of ids that are not in known. Nobody else may be
// leasing meanwhile.
func (p *plugins) freeLeases(known map[string]bool) (freed int, err error) {
	entries, err := os.ReadDir(p.leases)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if _, err := netip.ParseAddr(entry.Name()); err != nil {
			continue // host-local's lock and its memory of the last address
		}
		path := filepath.Join(p.leases, entry.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return freed, err
		}
		id, _, _ := strings.Cut(string(text), "\n")
		if known[strings.TrimSpace(id)] {
			continue
		}
		if err := os.Remove(path); err != nil {
			return freed, err
		}
		freed++
	}
	return freed, nil
}

// pluginExec runs a plugin so that it cannot outlive its purpose: it dies with
// this process, a cancelled one takes its children along (bridge runs
// host-local), and while any of them lives the RunDir stays locked.
type pluginExec struct {
	version.PluginDecoder
	lock *os.File
}

func (e *pluginExec) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

func (e *pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	// The parent-death signal comes when the starting thread ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), &stdout, &stderr
	cmd.ExtraFiles = []*os.File{e.lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	// A plugin explains itself in JSON on its standard output.
	var told types.Error
	if json.Unmarshal(stdout.Bytes(), &told) == nil && told.Msg != "" {
		return nil, &told
	}
	return nil, fmt.Errorf("%s: %w: %s", filepath.Base(path), err, strings.TrimSpace(stderr.String()+" "+stdout.String()))
}
