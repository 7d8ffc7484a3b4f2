package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecolink/agent/keeper/keepertest"
	"ecolink/agent/keeper/logfile"
	"ecolink/agent/keeper/session"
)

func TestMain(m *testing.M) { os.Exit(keepertest.Main(m)) }

const patience = 20 * time.Second

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !check(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}

func newLog(t *testing.T) (logfile.Config, *keepertest.Process) {
	t.Helper()
	config := logfile.Config{Dir: filepath.Join(t.TempDir(), "log"), MaxBytes: 1 << 20, Files: 3}
	return config, keepertest.Start(t, config.Args())
}

// newSession is a terminal's host with cat as its shell: what is typed comes back.
func newSession(t *testing.T) (session.Config, *keepertest.Process) {
	t.Helper()
	config := session.Config{Dir: t.TempDir(), ScrollbackBytes: 1 << 20}
	host := keepertest.Start(t, config.Args())
	shell := exec.Command(keepertest.Binary(t), "shell", "/bin/sh", "-c", "stty -echo -onlcr; exec cat")
	shell.Stdout = host.Stdout
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = shell.Process.Kill()
		_ = shell.Wait()
	})
	if err := session.Adopt(t.Context(), config.Dir, shell.Process.Pid, session.Window{Cols: 80, Rows: 24}); err != nil {
		t.Fatal(err)
	}
	return config, host
}

// dialSession attaches, and waits until the shell echoes no more.
func dialSession(t *testing.T, config session.Config) *session.Conn {
	t.Helper()
	c, err := session.Dial(t.Context(), config.Dir, session.FromOldest, session.Window{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	time.Sleep(200 * time.Millisecond)
	return c
}

// say has the terminal print a line.
func say(t *testing.T, c *session.Conn, line string) {
	t.Helper()
	if _, err := c.Write([]byte(line + "\n")); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for p := make([]byte, 4096); !strings.Contains(got.String(), line+"\n"); {
		n, err := c.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(p[:n])
	}
}

func logText(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := logfile.Read(dir, logfile.Options{}, func(line logfile.Line) error {
		fmt.Fprintf(&b, "%s %s\n", line.Stream, line.Text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTheBinaryIsStatic(t *testing.T) {
	file, err := elf.Open(keepertest.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	for _, program := range file.Progs {
		if program.Type == elf.PT_INTERP || program.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a %v: it would need libraries from the container's image", program.Type)
		}
	}
}

func TestWrongUseIsExplained(t *testing.T) {
	rows := map[string]struct {
		args string
		code int
		says string
	}{
		"nothing":         {"", exitUsage, "usage: ecolink-keeper init"},
		"no pairs":        {"role", exitUsage, "must come in pairs"},
		"no role":         {"dir /x", exitUsage, "usage: ecolink-keeper init"},
		"unknown role":    {"role cook", exitUsage, "usage: ecolink-keeper init"},
		"incomplete":      {"role log dir /x", exitFailed, "max_bytes must be"},
		"without a shim":  {"role log dir /x max_bytes 4096 files 1", exitFailed, "for containerd's shim to start"},
		"no shell":        {"shell", exitFailed, "needs a program to run"},
		"a lone terminal": {"role session dir /x scrollback_bytes 4096", exitFailed, "for containerd's shim to start"},
	}
	for name, row := range rows {
		output, err := exec.Command(keepertest.Binary(t), strings.Fields(row.args)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != row.code || !strings.Contains(string(output), row.says) {
			t.Errorf("%s: %v: %s", name, err, output)
		}
	}
}

func TestTheLogWriterIgnoresSignalsAndEndsWithItsPipes(t *testing.T) {
	config, writer := newLog(t)
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE} {
		writer.Signal(t, s)
	}
	_, _ = writer.Stdout.WriteString("out\n")
	eventually(t, "the line is in the log", func() bool { return logText(t, config.Dir) == "stdout out\n" })
	_, _ = writer.Stderr.WriteString("last words")
	// As the shim does: close, then SIGTERM at once.
	_, _ = writer.Stdout.Close(), writer.Stderr.Close()
	writer.Signal(t, syscall.SIGTERM)
	if code, said := writer.Wait(t, patience); code != 0 || said != "" {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if got := logText(t, config.Dir); got != "stdout out\nstderr last words\n" {
		t.Fatalf("the log is %q", got)
	}
}

func TestAnotherWriterGoesOnAfterOneWasKilled(t *testing.T) {
	config, writer := newLog(t)
	_, _ = writer.Stdout.WriteString("one\n")
	eventually(t, "the line is in the log", func() bool { return logText(t, config.Dir) == "stdout one\n" })
	writer.Kill()
	again := keepertest.Start(t, config.Args())
	_, _ = again.Stdout.WriteString("two\n")
	eventually(t, "both lines are in the log", func() bool { return logText(t, config.Dir) == "stdout one\nstdout two\n" })
}

func TestTheTerminalHostStopsWhenToldTo(t *testing.T) {
	config, host := newSession(t)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE} {
		host.Signal(t, s)
	}
	c := dialSession(t, config)
	say(t, c, "hello")
	host.Signal(t, syscall.SIGTERM)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, session.ErrEnded) || !strings.Contains(err.Error(), "told to stop") {
		t.Fatalf("got %v", err)
	}
	if code, said := host.Wait(t, patience); code != 0 || said != "" {
		t.Fatalf("exit code %d: %s", code, said)
	}
}

func TestTheTerminalHostEndsWithItsProgram(t *testing.T) {
	config, host := newSession(t)
	c := dialSession(t, config)
	say(t, c, "bye")
	if _, err := c.Write([]byte{0x04}); err != nil { // the end of input, for cat
		t.Fatal(err)
	}
	if code, said := host.Wait(t, patience); code != 0 || said != "" {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if total, reason, ended := session.Ended(config.Dir); !ended || total != 4 || reason != "" {
		t.Fatalf("the mark says %d, %q, %v", total, reason, ended)
	}
}

// TestTheRolesStaySmall: one or two of these processes run for every container.
func TestTheRolesStaySmall(t *testing.T) {
	within := func(what string, p *keepertest.Process, limit int64) {
		t.Helper()
		time.Sleep(100 * time.Millisecond)
		all, own := p.ResidentBytes(t)
		t.Logf("%s: %d KiB resident, %d KiB of them its own", what, all>>10, own>>10)
		if own > limit {
			t.Errorf("%s: %d bytes, want %d at most", what, own, limit)
		}
	}
	flood := func(p *keepertest.Process) {
		t.Helper()
		text := strings.Repeat("a line of output\n", 4000) + strings.Repeat("x", 50_000)
		for range 300 {
			if _, err := p.Stdout.WriteString(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, writer := newLog(t)
	within("idle log writer", writer, 2<<20)
	flood(writer)
	within("log writer after 35 MB", writer, 3<<20)

	config, host := newSession(t)
	within("idle terminal host", host, 1<<20)
	for c, n := dialSession(t, config), 0; n < 3000; n++ {
		say(t, c, strings.Repeat("a line of output", 200)[:3000])
	}
	within("terminal host with 1 MiB of scrollback", host, 3<<20)
	for range 500 {
		c, err := session.Dial(t.Context(), config.Dir, session.FromNow, session.Window{})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	within("terminal host after 500 clients", host, 5<<20)
}
