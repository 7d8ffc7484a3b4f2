package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// text is what a file has behind the hole at its beginning.
func text(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimLeft(raw, "\x00"))
}

// The writer is another process, as containerd is, and never opens the file again.
func TestLogStaysSmallAndLosesNoLineThatIsJustBeingWritten(t *testing.T) {
	const lines, bound = 120_000, 64 << 10
	name := filepath.Join(t.TempDir(), "containerd.log")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	writer := exec.Command("sh", "-c", fmt.Sprintf("n=0; while [ $n -lt %d ]; do n=$((n+1)); echo line $n; done", lines))
	writer.Stdout = f
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = writer.Process.Kill() })
	ended := make(chan error, 1)
	go func() { ended <- writer.Wait() }()
	b := logBounds{bytes: bound}
	var before string // all that was seen, to be continued by each look
	shortened := 0
	look := func() {
		if err := b.shorten(name); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			t.Fatal(err)
		}
		older, err := os.ReadFile(name + ".1")
		if os.IsNotExist(err) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if string(older) != before {
			before, shortened = string(older), shortened+1
		}
		if len(older) > bound {
			t.Errorf("%d bytes were kept of the older part", len(older))
		}
	}
	for done := false; !done; {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		case <-time.After(2 * time.Millisecond):
		}
		look()
	}
	if shortened < 3 {
		t.Fatalf("it was shortened %d times: this shows little", shortened)
	}
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > bound+8192 {
		t.Errorf("the log takes %d bytes of the disk", st.Blocks*512)
	}
	all := strings.Split(strings.TrimSuffix(text(t, name+".1")+text(t, name), "\n"), "\n")
	if len(all) < 100 || all[len(all)-1] != fmt.Sprintf("line %d", lines) {
		t.Fatalf("the newest of %d lines is %q", len(all), all[len(all)-1])
	}
	for n, line := range all[1:] { // the first may be cut
		if want := fmt.Sprintf("line %d", lines-len(all)+2+n); line != want {
			t.Fatalf("%q stands where %q should", line, want)
		}
	}
}

// A tmpfs can only punch holes.
func TestLogStaysSmallWhereABeginningCannotBeTakenAway(t *testing.T) {
	newConfig(t) // root
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	name := filepath.Join(dir, "containerd.log")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := logBounds{bytes: 64 << 10}
	for n := range 100 { // three times what the file system holds
		if _, err := io.WriteString(f, strings.Repeat(fmt.Sprintf("part %03d of the log\n", n), 1500)); err != nil {
			t.Fatal(err)
		}
		if err := b.shorten(name); err != nil {
			t.Fatal(err)
		}
	}
	all := text(t, name+".1") + text(t, name)
	if !strings.HasSuffix(all, "part 099 of the log\n") || !strings.Contains(all, "part 098 of the log\npart 099") {
		t.Errorf("the newest lines are %q", all[max(0, len(all)-100):])
	}
}

// Nobody shortens the log while EcoLink is away; the next one does at once, and
// what containerd itself says later is at the end.
func TestLogOfAContainerdThatWasTakenOverIsBoundedAndHasItsNewestLines(t *testing.T) {
	c := newConfig(t)
	// Started by an EcoLink that is gone: nobody watches.
	start(t, c).Stop()
	binary, err := exec.LookPath(c.Binary)
	if err != nil {
		t.Fatal(err)
	}
	left := &Daemon{cfg: c, binary: binary, log: slog.New(slog.DiscardHandler)}
	process, err := left.launch()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { // whatever happens
		_ = unix.PidfdSendSignal(process.pidfd, unix.SIGKILL, nil, 0)
		unix.Close(process.pidfd)
	}()
	if err := left.ready(t.Context(), process); err != nil {
		t.Fatal(err)
	}
	flood, err := os.OpenFile(c.logFile(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	if _, err := io.WriteString(flood, strings.Repeat("much is said\n", 100_000)); err != nil {
		t.Fatal(err)
	}
	const bound = 128 << 10
	d, err := startBounded(context.Background(), c, logBounds{bytes: bound, interval: 20 * time.Millisecond}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Stop()
	await(t, "the log is short", func() bool {
		var st unix.Stat_t
		return unix.Stat(c.logFile(), &st) == nil && st.Blocks*512 <= bound
	})
	// Go programs say goodbye to this signal with all their stacks.
	first := pid(t, c)
	if err := syscall.Kill(first, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	await(t, "containerd is started again", func() bool { return pid(t, c) != first && answers(c) })
	said := text(t, c.logFile()+".1")
	if !strings.Contains(said, "much is said\n") || !strings.Contains(said, "SIGQUIT: quit") || strings.Contains(said, "\x00") {
		t.Errorf("it said last: %.300q … %q", said, said[max(0, len(said)-300):])
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// An older EcoLink did not open the log for appending.
func TestAContainerdThatDoesNotAppendToItsLogIsMadeTo(t *testing.T) {
	name := filepath.Join(t.TempDir(), "containerd.log")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	in, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer say.Close()
	const first = 4096
	writer := exec.Command("sh", "-c", fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; read go; echo then; echo and >&2", first))
	writer.Stdin, writer.Stdout, writer.Stderr = in, f, f
	err = errors.Join(writer.Start(), in.Close(), f.Close())
	t.Cleanup(func() { _ = writer.Process.Kill() })
	if err != nil {
		t.Fatal(err)
	}
	p, err := open(writer.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p.pidfd)
	await(t, "it has said much", func() bool { i, err := os.Stat(name); return err == nil && i.Size() == first })
	if err := p.appendTo(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 0); err != nil { // the shortest that it can become
		t.Fatal(err)
	}
	if _, err := say.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	if err := writer.Wait(); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(name); err != nil || string(raw) != "then\nand\n" {
		t.Errorf("%q, %v", raw, err)
	}
}

// What can't be mended is left as it is: a log with a hole is worse than a long one.
func TestALogThatIsNotAppendedToIsLeftAlone(t *testing.T) {
	c := Config{DataDir: t.TempDir()}
	long := strings.Repeat("line\n", 20_000)
	if err := os.WriteFile(c.logFile(), []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	d := &Daemon{cfg: c, log: slog.New(slog.NewTextHandler(&said, nil)), bounds: logBounds{bytes: 4096, interval: time.Millisecond}}
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if d.attend(ctx, &process{noAppend: unix.EPERM}, nil) {
		t.Error("it is said to have died")
	}
	if raw, err := os.ReadFile(c.logFile()); err != nil || string(raw) != long {
		t.Errorf("%d bytes are left of %d, %v", len(raw), len(long), err)
	}
	if strings.Count(said.String(), "grows without bound") != 1 {
		t.Errorf("it is told:\n%s", said.String())
	}
}
