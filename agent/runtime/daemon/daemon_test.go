package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newConfig(t *testing.T) Config {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "ecod") // short: sockets have 107 bytes for their path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Config{Binary: "containerd", DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run")}
}

func start(t *testing.T, c Config) *Daemon {
	t.Helper()
	d, err := Start(context.Background(), c, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func pid(t *testing.T, c Config) int {
	t.Helper()
	raw, err := os.ReadFile(c.pidFile())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func answers(c Config) bool {
	conn, err := net.DialTimeout("unix", c.Socket(), time.Second)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

func TestContainerdThatDiesIsStartedAgainAndEndsWithStop(t *testing.T) {
	c := newConfig(t)
	d := start(t, c)
	first := pid(t, c)
	if c.Served() {
		t.Error("our own was taken for a service")
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for pid(t, c) == first || !answers(c) {
		if time.Now().After(deadline) {
			t.Fatal("containerd does not come back")
		}
		time.Sleep(20 * time.Millisecond)
	}
	second := pid(t, c)
	d.Stop()
	if err := syscall.Kill(second, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("containerd is still there: %v", err)
	}
	if answers(c) {
		t.Error("somebody still answers")
	}
}

func TestRunningContainerdIsTakenOverAndAStrangersNumberIsNot(t *testing.T) {
	c := newConfig(t)
	left := start(t, c) // as an EcoLink that was killed leaves it
	first := pid(t, c)
	if err := os.Remove(c.pidFile()); err != nil { // it was killed before it had written that
		t.Fatal(err)
	}
	if c.Served() {
		t.Error("our own was taken for a service")
	}
	second := start(t, c)
	if got := pid(t, c); got != first {
		t.Errorf("another containerd was started: %d beside %d", got, first)
	}
	left.stop() // in a real crash nobody watches any more
	second.Stop()
	left.loop.Wait()
	if err := os.WriteFile(c.pidFile(), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		t.Fatal(err)
	}
	third := start(t, c) // the number belongs to this test by now
	if got := pid(t, c); got == os.Getpid() {
		t.Error("the test was taken for containerd")
	}
	third.Stop()
}

func TestContainerdThatCannotStartSaysWhereItsLogIs(t *testing.T) {
	c := newConfig(t)
	c.Binary = filepath.Join(filepath.Dir(c.DataDir), "broken")
	if err := os.WriteFile(c.Binary, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Start(context.Background(), c, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "containerd.log") {
		t.Fatalf("got %v", err)
	}
	c.Binary = "no-such-containerd"
	if _, err := Start(context.Background(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "install the package containerd") {
		t.Fatalf("got %v", err)
	}
}
