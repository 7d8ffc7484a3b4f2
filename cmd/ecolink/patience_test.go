package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inherit gives what f is to a child that ends after a time, and lets go of it here,
// as a process that is killed while it starts another one does.
func inherit(t *testing.T, f *os.File, lasts string) {
	t.Helper()
	child := exec.Command("sleep", lasts)
	child.ExtraFiles = []*os.File{f}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// heldAddress is an address on which a child listens, of which this process has let go.
func heldAddress(t *testing.T, lasts string) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	inherit(t, f, lasts)
	return l.Addr().String()
}

func TestAnAddressThatAKilledProcessLeftIsServedOnceItIsFree(t *testing.T) {
	address := heldAddress(t, "0.3")
	var out bytes.Buffer
	began := time.Now()
	l, err := listen(t.Context(), address, heldTimeout, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("it was served after %s: the child did not hold it", took)
	}
	if n := strings.Count(out.String(), "address already in use"); n != 1 {
		t.Errorf("it was logged %d times: %s", n, &out)
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("nobody answers: %v", err)
	}
	c.Close()
}

func TestAnAddressThatStaysTakenStopsServeBeforeItTouchesAnything(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("serve needs root")
		}
		t.Skip("serve needs root")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	c := serveConfig{listen: l.Addr().String(), dataDir: filepath.Join(dir, "data"), runDir: filepath.Join(dir, "run")}
	began := time.Now()
	err = serve(t.Context(), c, slog.New(slog.DiscardHandler))
	if took := time.Since(began); took < heldTimeout || took > heldTimeout+5*time.Second {
		t.Errorf("it gave up after %s", took)
	}
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.HasSuffix(err.Error(), "address already in use: stop what listens there, or choose another --listen") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v: %v", left, err)
	}
}

func TestTheSSHAddressIsWaitedForAsWell(t *testing.T) {
	c := serveConfig{listen: "127.0.0.1:0", sshListen: heldAddress(t, "0.3"), dataDir: t.TempDir()}
	door, err := openSSH(t.Context(), c, "http://localhost", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer door.close()
	if door.listener == nil || door.listener.Addr().String() != c.sshListen {
		t.Errorf("SSH is answered at %+v and not at %s", door.listener, c.sshListen)
	}
}

func TestTheRunFolderIsWaitedForAndThenRefused(t *testing.T) {
	dir := t.TempDir()
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	inherit(t, f, "0.3")
	log := slog.New(slog.DiscardHandler)
	unlock, err := lockRunDir(t.Context(), dir, heldTimeout, log)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockRunDir(t.Context(), dir, 100*time.Millisecond, log)
	if err == nil || !strings.Contains(err.Error(), "another EcoLink runs with --run-dir "+dir) {
		t.Errorf("got %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}
