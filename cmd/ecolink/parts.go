package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ecolink/agent"
	"ecolink/agent/device"
	"ecolink/agent/network"
	"ecolink/agent/runtime"
	"ecolink/agent/runtime/daemon"
	"ecolink/agent/volume"
	"ecolink/nvml"
	"ecolink/scheduler/placement"
)

// containerdNamespace is the namespace that holds everything that is ours in
// containerd. It is of this data folder alone: runc and the kernel's control
// groups know a container by namespace and name, whichever containerd started
// it, so that two boxes on one machine (a demonstration beside the real thing)
// with one namespace would kill each other's instance-1.
func containerdNamespace(dataDir string) string {
	if dataDir == defaultDataDir {
		return "ecolink"
	}
	sum := sha256.Sum256([]byte(dataDir))
	return "ecolink-" + hex.EncodeToString(sum[:4])
}

// closeTimeout bounds the taking apart of what EcoLink prepared on the host.
const closeTimeout = 30 * time.Second

// parts are the hands of the box, opened in order and closed in reverse.
type parts struct {
	inventory nvml.Inventory
	box       *agent.Box
	perGPU    agent.Resources // that go with each GPU
	closers   []func() error
}

func (p *parts) close() (err error) {
	for n := len(p.closers) - 1; n >= 0; n-- {
		err = errors.Join(err, p.closers[n]())
	}
	return err
}

// openParts opens GPUs, containerd and the containers' network. addr is where
// the API listens, which containers may reach.
func openParts(ctx context.Context, c serveConfig, addr net.Addr, log *slog.Logger) (_ *parts, err error) {
	p := &parts{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	lib, err := nvml.Open(c.gpus)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, lib.Close)
	if p.inventory, err = lib.Inventory(); err != nil {
		return nil, err
	}
	report(p.inventory, log)
	for _, dir := range []string{c.dataDir, c.runDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	unlock, err := lockRunDir(ctx, c.runDir, heldTimeout, log)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, unlock)
	devices, err := device.New(p.inventory, filepath.Join(c.runDir, "cdi"))
	if err != nil {
		return nil, err
	}
	containerd, err := p.containerd(ctx, c, log)
	if err != nil {
		return nil, err
	}
	cfg := runtime.Config{
		Socket: containerd, Namespace: containerdNamespace(c.dataDir), DataDir: c.dataDir, RunDir: filepath.Join(c.runDir, "runtime"),
	}
	if err := c.images.runtime(&cfg, c.subnet); err != nil {
		return nil, err
	}
	rt, err := runtime.Connect(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, rt.Close)
	images, err := rt.ImageDir(ctx)
	if err != nil {
		return nil, err
	}
	users, err := userNamespaces(ctx, c, images, log)
	if err != nil {
		return nil, err
	}
	net, err := openNetwork(ctx, c, users, addr, log)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		return net.Close(ctx)
	})
	volumes, err := openVolumes(c, log)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, volumes.Close)
	p.box = agent.NewBox(rt, net, devices, volumes, filepath.Join(c.dataDir, "terminals"))
	p.closers = append(p.closers, p.box.Close)
	return p, p.openScratch(ctx, c, log)
}

// openScratch works out what goes with each GPU, and opens what limits the disk
// that instances use outside of drives.
func (p *parts) openScratch(ctx context.Context, c serveConfig, log *slog.Logger) error {
	cfg := volume.ScratchConfig{Warm: c.warmScratch, Config: volume.Config{
		Dir: filepath.Join(c.dataDir, "scratch"), RunDir: filepath.Join(c.runDir, "scratch"), Reserve: int64(c.reserveGB) * 1e9,
	}}
	have, err := agent.MachineCapacity(c.dataDir)
	if err != nil {
		return err
	}
	// What scratch takes already is to be shared out again.
	taken, err := volume.Taken(cfg.Dir)
	if err != nil {
		return err
	}
	have.DiskBytes = max(0, have.DiskBytes+taken-cfg.Reserve)
	p.perGPU = c.policy.PerGPU(have, len(placeable(p.inventory)), c.warmScratch)
	cfg.WarmBytes = p.perGPU.ScratchBytes
	scratch, err := volume.OpenScratch(ctx, cfg, log)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, scratch.Close)
	p.box.UseScratch(scratch)
	log.Info("with each GPU", "cpus", float64(p.perGPU.MilliCPUs)/1000, "memory", p.perGPU.MemoryBytes, "pids", p.perGPU.PIDs, "scratch", p.perGPU.ScratchBytes)
	return nil
}

// report says which GPUs there are; without any, why.
func report(inv nvml.Inventory, log *slog.Logger) {
	for _, g := range inv.GPUs {
		log.Info("GPU", "index", g.Index, "type", g.Type, "name", g.Name, "uuid", g.UUID, "simulated", inv.Simulated, "mig", g.MIGEnabled)
	}
	for _, problem := range inv.Problems {
		log.Error("a GPU can't be used", "index", problem.Index, "why", problem.Detail)
	}
	if inv.Simulated {
		log.Warn("the GPUs are simulated: nothing computes on them", "as", inv.SimulatedAs)
	}
	if inv.Note != "" {
		log.Warn("there are no GPUs", "why", inv.Note)
	}
}

// containerd gives the socket of the containerd to use.
func (p *parts) containerd(ctx context.Context, c serveConfig, log *slog.Logger) (string, error) {
	cfg := daemon.Config{Binary: "containerd", DataDir: filepath.Join(c.dataDir, "containerd"), RunDir: filepath.Join(c.runDir, "containerd")}
	switch c.containerd {
	case "auto":
		if cfg.Served() {
			return cfg.Socket(), nil
		}
	case "embedded":
	default:
		if !filepath.IsAbs(c.containerd) {
			return "", fmt.Errorf("--containerd %s: choose auto, embedded or the absolute path of a socket", c.containerd)
		}
		return c.containerd, nil
	}
	d, err := daemon.Start(ctx, cfg, log)
	if err != nil {
		return "", err
	}
	p.closers = append(p.closers, func() error { d.Stop(); return nil })
	return cfg.Socket(), nil
}

// openVolumes opens the pool of drives and shared filesystems.
func openVolumes(c serveConfig, log *slog.Logger) (*volume.Pool, error) {
	return volume.Open(volume.Config{
		Dir: filepath.Join(c.dataDir, "volumes"), RunDir: filepath.Join(c.runDir, "volumes"), Reserve: int64(c.reserveGB) * 1e9,
	}, log)
}

func openNetwork(ctx context.Context, c serveConfig, users bool, addr net.Addr, log *slog.Logger) (*network.Network, error) {
	cfg, err := networkConfig(c, addr)
	if err != nil {
		return nil, err
	}
	cfg.UserNamespaces = users
	return network.New(ctx, cfg, log)
}

// networkConfig is the containers' network as the flags have it. addr is where the
// API listens, which containers may reach.
func networkConfig(c serveConfig, addr net.Addr) (network.Config, error) {
	cfg := network.DefaultConfig()
	subnet, err := parseSubnet(c.subnet)
	if err != nil {
		return cfg, err
	}
	cfg.Name, cfg.Bridge, cfg.Subnet = c.bridge, c.bridge, subnet
	for _, text := range c.block {
		blocked, err := netip.ParsePrefix(text)
		if err != nil || !blocked.Addr().Is4() {
			return cfg, misuse("--block %s: write an IPv4 range like 192.168.0.0/16", text)
		}
		cfg.Block = append(cfg.Block, blocked)
	}
	cfg.RunDir, cfg.Warm, cfg.DNS = filepath.Join(c.runDir, "network"), c.warm, c.dns
	if tcp, ok := addr.(*net.TCPAddr); ok {
		cfg.AllowTCP = []uint16{uint16(tcp.Port)}
	}
	return cfg, nil
}

// gpuTypes are the types of GPU that the box has, each once.
func gpuTypes(inv nvml.Inventory) (types []string) {
	for _, g := range inv.GPUs {
		if g.Type != "" && !slices.Contains(types, g.Type) {
			types = append(types, g.Type)
		}
	}
	return types
}

// placeable are the GPUs that can be given whole: those whose type is known and
// that are not partitioned.
func placeable(inv nvml.Inventory) []placement.GPU {
	var out []placement.GPU
	for _, g := range inv.GPUs {
		if g.Type != "" && !g.MIGEnabled {
			out = append(out, placement.GPU{UUID: g.UUID, Index: g.Index, Type: g.Type, Peers: g.NVLinkPeers})
		}
	}
	return out
}
