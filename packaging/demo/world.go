package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ecolink/packaging/sample"
)

const (
	email        = "operator@example.org"
	bridge       = "ecodemo0"
	subnet       = "10.119.0.0/16"
	readyTimeout = time.Minute
	stopTimeout  = time.Minute
)

// world is a running EcoLink with all that the demonstration needs beside it.
type world struct {
	dir      string
	binary   string
	url      string
	key      string
	password string
	image    string
	gpuType  string
	registry *sample.Registry
	serve    *exec.Cmd
	ended    chan error // one value when serve has ended
}

func newWorld() (*world, error) {
	binary, err := filepath.Abs("bin/ecolink")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%w: run it by `make demo`, which builds it", err)
	}
	// Short: the path of a socket has room for 107 bytes.
	dir, err := os.MkdirTemp("", "ecodemo")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // for root in a user namespace, who is nobody here
		return nil, err
	}
	var secret [9]byte
	rand.Read(secret[:])
	return &world{dir: dir, binary: binary, password: hex.EncodeToString(secret[:]), ended: make(chan error, 1)}, nil
}

// start starts EcoLink and a registry, and makes the operator.
func (w *world) start(ctx context.Context) error {
	heading("Starting EcoLink")
	address, err := freeAddress()
	if err != nil {
		return err
	}
	w.url = "http://" + address
	gpus := "simulated:h100x8"
	if _, err := os.Stat("/dev/nvidiactl"); err == nil {
		gpus = "auto"
	}
	log, err := os.Create(filepath.Join(w.dir, "ecolink.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{"serve", "--config", os.DevNull, "--listen", address, "--containerd", "embedded", "--gpus", gpus,
		"--bridge", bridge, "--subnet", subnet}, w.place()...)
	fmt.Println("$ ecolink", strings.Join(args, " "))
	w.serve = exec.Command(w.binary, args...)
	w.serve.Stdout, w.serve.Stderr = log, log
	w.serve.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for us
	if err := w.serve.Start(); err != nil {
		return err
	}
	go func() { w.ended <- w.serve.Wait() }()
	if err := w.ready(ctx); err != nil {
		return err
	}
	if w.registry, err = sample.Serve(nil); err != nil {
		return err
	}
	busybox, err := sample.Busybox()
	if err != nil {
		return err
	}
	if w.image, err = w.registry.Push("demo/busybox:1", busybox); err != nil {
		return err
	}
	return w.bootstrap(ctx)
}

func (w *world) place() []string {
	return []string{"--data-dir", filepath.Join(w.dir, "data"), "--run-dir", filepath.Join(w.dir, "run")}
}

func (w *world) ready(ctx context.Context) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		resp, err := http.Get(w.url + "/healthz")
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-w.ended:
			w.ended <- err
			return fmt.Errorf("EcoLink ended: %w: its log:\n%s", err, w.log())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("EcoLink does not answer: %w: its log:\n%s", err, w.log())
		}
	}
}

func (w *world) log() string {
	raw, _ := os.ReadFile(filepath.Join(w.dir, "ecolink.log")) // part of another error's text
	return string(raw)
}

// bootstrap makes the first operator as a script would.
func (w *world) bootstrap(ctx context.Context) error {
	file := filepath.Join(w.dir, "password")
	if err := os.WriteFile(file, []byte(w.password), 0o600); err != nil {
		return err
	}
	out, err := w.run(ctx, append([]string{"admin", "bootstrap", "--email", email, "--password-file", file}, w.place()...)...)
	if err != nil {
		return err
	}
	var made struct {
		APIKey string `json:"api_key"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.APIKey == "" {
		return fmt.Errorf("bootstrap printed %q: %w", out, err)
	}
	w.key = made.APIKey
	return nil
}

// run runs ecolink quietly and gives what it prints.
func (w *world) run(ctx context.Context, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := w.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("ecolink %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.binary, args...)
	cmd.Env = append(os.Environ(), "ECOLINK_URL="+w.url, "ECOLINK_API_KEY="+w.key)
	return cmd
}

// show is run for everybody to see.
func (w *world) show(ctx context.Context, args ...string) (string, error) {
	fmt.Println("$ ecolink", strings.Join(args, " "))
	out, err := w.run(ctx, args...)
	fmt.Print(out)
	return out, err
}

// close ends everything, whatever has been started, and looks what is left.
func (w *world) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*stopTimeout)
	defer cancel()
	var errs []error
	if w.key != "" {
		errs = append(errs, w.terminateAll(ctx))
	}
	if w.serve != nil && w.serve.Process != nil {
		errs = append(errs, w.stop())
	}
	if w.registry != nil {
		errs = append(errs, w.registry.Close())
	}
	errs = append(errs, w.left())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w\nleft for you to look at: %s", err, w.dir)
	}
	return os.RemoveAll(w.dir)
}

func (w *world) stop() error {
	// It may have ended by itself; its status tells.
	_ = w.serve.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-w.ended:
		if err != nil {
			return fmt.Errorf("EcoLink ended with %w: its log:\n%s", err, w.log())
		}
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(errors.New("EcoLink does not stop"), w.serve.Process.Kill())
	}
}

// freeAddress prefers the port that the README names.
func freeAddress() (string, error) {
	for _, address := range []string{"127.0.0.1:7070", "127.0.0.1:0"} {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			continue
		}
		found := l.Addr().String()
		return found, l.Close()
	}
	return "", errors.New("no free port on loopback")
}
