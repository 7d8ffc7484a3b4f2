package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"iter"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"ecolink/agent/device"
	"ecolink/agent/network"
	"ecolink/agent/runtime"
	"ecolink/agent/terminal"
	"ecolink/agent/volume"
)

// Box is this machine: its containers, networks, devices and terminals, put
// together into workloads. Its methods may be called from many goroutines;
// those that change a workload, from one at a time for each.
type Box struct {
	runtime   *runtime.Runtime
	network   *network.Network
	devices   *device.Injector
	terminals *terminal.Sessions
	volumes   *volume.Pool
	scratch   *volume.Scratch // nil: layers have no limit
	files     *openFiles
}

// NewBox puts the parts together. Terminals live below terminalDir. Whoever made
// the parts closes them, after the box.
func NewBox(r *runtime.Runtime, n *network.Network, d *device.Injector, v *volume.Pool, terminalDir string) *Box {
	return &Box{
		runtime: r, network: n, devices: d, terminals: terminal.New(terminalDir, r),
		volumes: v, files: newOpenFiles(v),
	}
}

// Run makes the workload's container run, from whatever is there of it. What it
// made and could not use stays for Remove.
func (b *Box) Run(ctx context.Context, w Workload) (Observation, error) {
	st, err := b.runtime.Status(ctx, w.ID)
	if err != nil {
		return Observation{}, err
	}
	if st.Running {
		return b.observation(w.ID, st), nil
	}
	ns, err := b.network.Acquire(ctx, w.ID)
	if err != nil {
		return Observation{}, err
	}
	devices, err := b.devices.Prepare(w.ID, w.GPUs)
	if err != nil {
		return Observation{}, err
	}
	volumes, err := b.mountVolumes(ctx, w)
	if err != nil {
		return Observation{}, err
	}
	layer, err := b.layer(ctx, w)
	if err != nil {
		return Observation{}, err
	}
	files := make([]runtime.File, len(w.Files))
	for n, f := range w.Files {
		files[n] = runtime.File(f)
	}
	st, err = b.runtime.Start(ctx, runtime.Container{
		ID: w.ID, Image: w.image().wanted(), Hostname: w.Hostname, Command: w.Command, Env: w.Env, Labels: w.Labels,
		Resources: runtime.Resources(w.Resources), Layer: layer, Files: files, Volumes: volumes,
		User: ns.User, NetworkNamespace: ns.Path, Address: ns.Address.String(), Nameservers: b.network.Resolver(),
		Edit: func(spec *specs.Spec) error { return b.devices.Inject(spec, devices) },
	})
	if err != nil {
		return Observation{}, err
	}
	return b.observation(w.ID, st), nil
}

// Observe says how the workload's container is. With an error the boot is told
// all the same: what an earlier one ran does not run.
func (b *Box) Observe(ctx context.Context, id string) (Observation, error) {
	st, err := b.runtime.Status(ctx, id)
	if err != nil {
		return Observation{ID: id, BootID: b.runtime.BootID()}, err
	}
	o := b.observation(id, st)
	command, kills := b.runtime.Ended(id, st)
	o.Command, o.OOMKills = (*CommandEnd)(command), kills
	return o, nil
}

func (b *Box) observation(id string, st runtime.Status) Observation {
	o := Observation{ID: id, Presence: Absent, BootID: b.runtime.BootID()}
	switch {
	case st.Running:
		o.Presence, o.StartedAt = Running, st.StartedAt
	case !st.ExitedAt.IsZero():
		o.Presence, o.ExitedAt, o.ExitCode = Exited, st.ExitedAt, st.ExitCode
	}
	return o
}

// Stop ends the workload as Remove does, and keeps what Run goes on with: its file
// system, its mounts and its address. Its GPUs are anybody's afterwards.
func (b *Box) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := b.runtime.Stop(ctx, id, grace); err != nil {
		return err
	}
	return b.devices.Release(id)
}

// Remove ends the workload and leaves nothing of it on the machine. It goes on
// past a part that fails, and may be called again.
func (b *Box) Remove(ctx context.Context, id string, grace time.Duration) error {
	// A network that is taken away under a running container would be a surprise.
	if err := b.runtime.Remove(ctx, id, grace); err != nil {
		return err
	}
	return errors.Join(b.releaseScratch(ctx, id), b.releaseVolumes(ctx, id), b.network.Release(ctx, id), b.devices.Release(id), b.terminals.Forget(id))
}

// List names every workload of which anything is on the machine.
func (b *Box) List(ctx context.Context) ([]string, error) {
	containers, err := b.runtime.List(ctx)
	if err != nil {
		return nil, err
	}
	owners, err := b.devices.Owners()
	if err != nil {
		return nil, err
	}
	watched, err := b.terminals.Containers()
	if err != nil {
		return nil, err
	}
	mounted, err := b.volumeUsers()
	if err != nil {
		return nil, err
	}
	written, err := b.scratchOwners()
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, id := range slices.Concat(containers, owners, b.network.Owners(), watched, mounted, written) {
		found[id] = true
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Changes gives a workload's name when it may have ended, "" when any may have.
func (b *Box) Changes() <-chan string { return b.runtime.Changes() }

// Terminal attaches to the named shell session of a workload, and starts it when
// it is not there. Output begins at the byte numbered `from`; below zero, where an
// empty screen needs it to. Of a session that ended after that byte the rest is
// shown, and then ErrTerminalEnded.
func (b *Box) Terminal(ctx context.Context, id, session string, from int64, cols, rows uint16) (Terminal, error) {
	t, err := b.terminals.Attach(ctx, id, session, from, cols, rows)
	if errors.Is(err, ErrTerminalEnded) {
		return b.terminals.Rest(id, session, from), nil
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Dial connects to an address as a program inside the workload would: its own
// loopback (localhost is any of its addresses), and whatever else its network lets
// it reach. network is tcp, tcp4 or tcp6.
func (b *Box) Dial(ctx context.Context, id, network, address string) (net.Conn, error) {
	return b.network.Dial(ctx, id, network, address)
}

// Exec runs a command in the workload, without a terminal, and gives its exit code.
func (b *Box) Exec(ctx context.Context, id string, argv []string, stdio Stdio) (int, error) {
	var unique [8]byte
	rand.Read(unique[:])
	return b.runtime.Exec(ctx, id, "exec-"+hex.EncodeToString(unique[:]), argv, stdio.Stdin, stdio.Stdout, stdio.Stderr)
}

// Logs yields the workload's output; with follow it goes on until ctx ends.
func (b *Box) Logs(ctx context.Context, id string, tail int, follow bool) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		for line, err := range b.runtime.Logs(ctx, id, tail, follow) {
			if !yield(LogLine(line), err) {
				return
			}
		}
	}
}
