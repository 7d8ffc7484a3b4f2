package session

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forEver is an allowance that never runs out.
var forEver = allowance{stall: time.Hour, shared: time.Hour, lost: time.Hour, reserve: 1 << 20}

// printing prints n bytes from a goroutine; done is closed when all are printed.
func (term *terminal) printing(n int) (done chan struct{}) {
	done = make(chan struct{})
	p := pattern(term.printed, n)
	term.printed += int64(n)
	go func() {
		defer close(done)
		_, _ = term.screen.Write(p)
	}()
	return done
}

func (term *terminal) mustPrint(what string, done chan struct{}) {
	term.t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		term.t.Fatalf("output waits: %s", what)
	}
}

func TestASlowViewerGetsEveryByte(t *testing.T) {
	const ring, total = 64 << 10, 3 << 20
	term := startPatient(t, newConfig(t, ring), forEver)
	c := term.attach(0)
	done := term.printing(total)
	for at := int64(0); at < total; at += 128 << 10 {
		time.Sleep(5 * time.Millisecond)
		mustRead(t, c, at+128<<10)
	}
	term.mustPrint("nobody is behind", done)
}

func TestAViewerThatTakesNothingIsGivenUp(t *testing.T) {
	a := forEver
	a.stall = 300 * time.Millisecond
	const ring, total = 64 << 10, 2 << 20
	term := startPatient(t, newConfig(t, ring), a)
	slow := term.attach(0)
	term.mustPrint("for one who takes nothing", term.printing(total))
	for {
		if _, err := slow.Read(make([]byte, 64<<10)); err != nil {
			if err != io.EOF {
				t.Fatalf("the slow viewer got %v, want io.EOF", err)
			}
			break
		}
	}
	term.printAll(1) // and so the host has all
	again := term.attach(slow.Offset())
	if again.Start() < term.printed-ring || again.Start() > term.printed {
		t.Fatalf("start %d of %d", again.Start(), term.printed)
	}
	term.print(10)
	mustRead(t, again, term.printed)
}

func TestASlowViewerHoldsOthersUpForAMomentOnly(t *testing.T) {
	a := forEver
	a.shared = 300 * time.Millisecond
	const ring, total = 64 << 10, 2 << 20
	term := startPatient(t, newConfig(t, ring), a)
	slow, fast := term.attach(0), term.attach(0)
	done := term.printing(total)
	mustRead(t, fast, total)
	term.mustPrint("for the slow one", done)
	if slow.Offset() != 0 {
		t.Fatal("nobody read")
	}
}

func TestAViewerThatWasCutOffMissesNothing(t *testing.T) {
	const ring, total = 2 << 20, 16 << 20 // a quarter of the ring is more than is on its way
	term := startPatient(t, newConfig(t, ring), forEver)
	done := term.printing(total)
	for at := int64(0); at < total; {
		c := term.attach(at)
		if c.Start() != at {
			t.Fatalf("attached at %d, not at %d", c.Start(), at)
		}
		to := min(at+1_500_000, total)
		mustRead(t, c, to)
		at = max(at, to-20_000) // some was on its way and never arrived
		if to == total {
			break
		}
		_ = c.Close()
		time.Sleep(30 * time.Millisecond) // longer than it takes to overwrite the ring
	}
	term.mustPrint("nobody is behind", done)
}

func TestOutputWaitsForNobodyWho(t *testing.T) {
	rows := map[string]struct {
		allowance allowance
		leave     func(c *Conn)
	}{
		"has said good-bye":    {forEver, func(c *Conn) { _ = c.Leave(); _ = c.Close() }},
		"does not come back":   {allowance{stall: time.Hour, shared: time.Hour, lost: 300 * time.Millisecond, reserve: 1 << 20}, func(c *Conn) { _ = c.Close() }},
		"has never been there": {forEver, nil},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			term := startPatient(t, newConfig(t, 64<<10), row.allowance)
			if row.leave != nil {
				c := term.attach(0)
				term.print(1000)
				mustRead(t, c, 1000)
				row.leave(c)
				term.mustTakeOneMore() // and so it has been noticed
			}
			term.mustPrint(name, term.printing(4<<20))
		})
	}
}

func TestAFullDiskLosesNothingThatIsShown(t *testing.T) {
	keepRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	config := Config{Dir: filepath.Join(dir, "t"), ScrollbackBytes: 1 << 20}
	if err := os.Mkdir(config.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	term := startPatient(t, config, forEver)
	c := term.attach(0)
	done := term.printing(2 << 20)
	mustRead(t, c, 2<<20)
	term.mustPrint("for the disk", done)
	late := term.attach(FromOldest)
	if kept := term.printed - late.Start(); kept != memoryBytes {
		t.Fatalf("%d bytes are kept, want %d", kept, memoryBytes)
	}
	mustRead(t, late, term.printed)
}

func keepRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func TestWhatATerminalPrintedLastIsReadAfterItsEnd(t *testing.T) {
	term := newTerminal(t, 64<<10)
	term.printAll(200_000)
	term.exit()
	last, from, err := Scrollback(term.config.Dir, 1000)
	if err != nil || from != 199_000 || string(last) != string(pattern(from, 1000)) {
		t.Fatalf("%d bytes from %d, %v", len(last), from, err)
	}
	if _, _, err := Scrollback(t.TempDir(), 1000); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("of none: %v", err)
	}
}
