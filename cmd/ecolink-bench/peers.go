package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// keepAlive is what every peer's container runs.
var keepAlive = []string{"sleep", "100000"}

// command runs a program and gives what it prints as part of its error.
func command(ctx context.Context, name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if name == "runc" {
		// Its detached container inherits these, and would keep a pipe open.
		cmd.Stdout, cmd.Stderr = nil, nil
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// runc starts an OCI bundle: no image, no snapshot, no network, no supervisor.
// It is the floor that everybody stands on.
type runc struct{ root, bundle string }

func newRunc(dir string, image v1.Image) (contender, error) {
	if _, err := exec.LookPath("runc"); err != nil {
		return nil, errPeer("runc", "runc", err)
	}
	r := runc{root: filepath.Join(dir, "run", "runc"), bundle: filepath.Join(dir, "bundle")}
	rootfs := filepath.Join(r.bundle, "rootfs")
	if err := os.MkdirAll(rootfs, 0o755); err != nil {
		return nil, err
	}
	flat := mutate.Extract(image)
	defer flat.Close()
	untar := exec.Command("tar", "-C", rootfs, "-x")
	untar.Stdin = flat
	if out, err := untar.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("unpack the image: %w: %s", err, out)
	}
	if _, err := io.Copy(io.Discard, flat); err != nil {
		return nil, err
	}
	if err := command(context.Background(), "runc", "spec", "--bundle", r.bundle); err != nil {
		return nil, err
	}
	return r, r.edit()
}

// edit makes the default spec one that can be started in the background.
func (r runc) edit() error {
	path := filepath.Join(r.bundle, "config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return err
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, keepAlive
	process["env"] = []string{"PATH=/bin"}
	delete(process, "rlimits") // may be above what we have
	if raw, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

func (r runc) name() string { return "runc run -d" }
func (r runc) start(ctx context.Context, id string) error {
	return command(ctx, "runc", "--root", r.root, "run", "-d", "--bundle", r.bundle, id)
}
func (r runc) remove(ctx context.Context, id string) error {
	return command(ctx, "runc", "--root", r.root, "delete", "-f", id)
}

// ctr is containerd's own client on the very containerd that EcoLink uses.
type ctr struct {
	socket, image string
}

func newCtr(ctx context.Context, socket, image string) (contender, error) {
	if _, err := exec.LookPath("ctr"); err != nil {
		return nil, errPeer("ctr", "containerd", err)
	}
	c := ctr{socket, image}
	return c, c.run(ctx, "images", "pull", "--plain-http", image)
}

func (c ctr) run(ctx context.Context, args ...string) error {
	return command(ctx, "ctr", append([]string{"-a", c.socket, "-n", "bench"}, args...)...)
}

func (c ctr) name() string { return "ctr run -d" }
func (c ctr) start(ctx context.Context, id string) error {
	return c.run(ctx, append([]string{"run", "-d", c.image, id}, keepAlive...)...)
}
func (c ctr) remove(ctx context.Context, id string) error {
	if err := c.run(ctx, "task", "rm", "-f", id); err != nil {
		return err
	}
	return c.run(ctx, "container", "rm", id)
}

// podman with its network, which is what EcoLink gives too, on the runc that
// everybody else uses.
type podman struct{ root, run, image string }

func newPodman(ctx context.Context, dir, image string, clean *cleanup) (contender, error) {
	if _, err := exec.LookPath("podman"); err != nil {
		return nil, errPeer("podman", "podman", err)
	}
	p := podman{filepath.Join(dir, "podman"), filepath.Join(dir, "run", "podman"), image}
	clean.add(func() error { return p.do(context.Background(), "system", "reset", "-f") })
	return p, p.do(ctx, "pull", "--tls-verify=false", image)
}

func (p podman) do(ctx context.Context, args ...string) error {
	return command(ctx, "podman", append([]string{"--runtime", "runc", "--root", p.root, "--runroot", p.run}, args...)...)
}

func (p podman) name() string { return "podman run -d" }
func (p podman) start(ctx context.Context, id string) error {
	// Low limits: by itself it raises them, which a process without
	// CAP_SYS_RESOURCE may not.
	args := []string{"run", "-d", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--name", id, p.image}
	return p.do(ctx, append(args, keepAlive...)...)
}
func (p podman) remove(ctx context.Context, id string) error {
	return p.do(ctx, "rm", "-f", "-t", "0", id)
}
