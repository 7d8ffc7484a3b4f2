package session

import (
	"os"
	"testing"
	"time"

	creack "github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// watched counts how often a gate has its caller try.
func watched(t *testing.T, g *gate) (tries chan int, over chan error) {
	t.Helper()
	tries, over = make(chan int, 100), make(chan error, 1)
	go func() {
		n := 0
		over <- g.pass(func() bool {
			n++
			tries <- n
			return false
		})
	}()
	<-tries // the first, before it waits
	return tries, over
}

func TestKeysThatGoIntoAPTYDoNotWakeUpWhoReadsIt(t *testing.T) {
	master, program, err := creack.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer program.Close()
	if _, err := term.MakeRaw(int(program.Fd())); err != nil { // no echo
		t.Fatal(err)
	}
	g, err := newGate(int(master.Fd()), unix.EPOLLIN)
	if err != nil {
		t.Fatal(err)
	}
	tries, over := watched(t, g)
	for range 5 {
		if _, err := master.Write([]byte("key")); err != nil {
			t.Fatal(err)
		}
		if _, err := program.Read(make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case n := <-tries:
		t.Errorf("woken up for a key, try %d", n)
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := program.Write([]byte("output")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-tries:
	case <-time.After(5 * time.Second):
		t.Error("output woke up nobody")
	}
	g.close()
	if err := <-over; err != os.ErrClosed {
		t.Errorf("after it is closed: %v", err)
	}
}

func TestWhatComesFromASocketDoesNotWakeUpWhoWritesIt(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	for err == nil { // until it is full
		_, err = unix.Write(pair[0], make([]byte, 64<<10))
	}
	g, err := newGate(pair[0], unix.EPOLLOUT)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	tries, over := watched(t, g)
	if _, err := unix.Write(pair[1], []byte("key")); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-tries:
		t.Errorf("woken up for what came, try %d", n)
	case <-time.After(100 * time.Millisecond):
	}
	for n := 1; n > 0; {
		n, _ = unix.Read(pair[1], make([]byte, 1<<20))
	}
	select {
	case <-tries:
	case <-time.After(5 * time.Second):
		t.Error("room woke up nobody")
	}
	g.setDeadline(time.Unix(1, 0))
	if err := <-over; !os.IsTimeout(err) {
		t.Errorf("after the deadline: %v", err)
	}
}

func TestKeysGoToTheHostWhenTypingThemMayWait(t *testing.T) {
	master, program, err := creack.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer program.Close()
	fd := int(master.Fd())
	slots := make(chan struct{}, 1)
	c := &Conn{master: fd}
	c.BoundPresses(slots)
	for _, step := range []struct {
		name string
		do   func()
		want int
	}{
		{"the program made its PTY block", func() { _ = unix.SetNonblock(fd, false) }, 0},
		{"it does not any more", func() {}, 3},
		{"others type", func() { slots <- struct{}{} }, 0},
		{"they have", func() { <-slots }, 3},
	} {
		step.do()
		if n := c.typeNow([]byte("key")); n != step.want {
			t.Errorf("%s: %d bytes are typed, want %d", step.name, n, step.want)
		}
	}
	if len(slots) != 0 {
		t.Error("a slot is not given back")
	}
}
