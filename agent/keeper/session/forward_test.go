package session

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forwarded is a viewer whose output goes right into its socket.
type forwarded struct {
	t      *testing.T
	conn   *Conn
	socket *net.TCPConn  // the end that is forwarded
	screen *bufio.Reader // what comes out at the other end
	far    net.Conn
	got    int64      // the pattern's byte that comes next
	frames []string   // of other kinds, that came between
	end    chan error // what Read gave after ErrForwarded
}

func (term *terminal) forward(from int64) *forwarded {
	term.t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		term.t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		term.t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		term.t.Fatal(err)
	}
	term.t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	_ = far.SetReadDeadline(time.Now().Add(patience))
	f := &forwarded{t: term.t, conn: term.attach(from), socket: near.(*net.TCPConn), far: far, screen: bufio.NewReader(far), end: make(chan error, 1)}
	f.got = f.conn.Start()
	if err := f.conn.Forward(f.socket); err != nil {
		term.t.Fatal(err)
	}
	for buf := make([]byte, 64<<10); ; {
		n, err := f.conn.Read(buf)
		if !bytes.Equal(buf[:n], pattern(f.got, n)) {
			term.t.Fatalf("bytes from %d are not what was printed", f.got)
		}
		f.got += int64(n)
		if errors.Is(err, ErrForwarded) {
			break
		}
		if err != nil {
			term.t.Fatal(err)
		}
	}
	go func() {
		n, err := f.conn.Read(make([]byte, 1))
		if n > 0 {
			err = errors.New("output came by the old way")
		}
		f.end <- err
	}()
	return f
}

// message reads one frame of the socket. It fails on a masked or divided one.
func (f *forwarded) message() (kind byte, payload []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(f.screen, head[:2]); err != nil {
		return 0, nil, err
	}
	kind = head[0]
	length := uint64(head[1])
	switch length {
	case 126:
		_, err = io.ReadFull(f.screen, head[:2])
		length = uint64(binary.BigEndian.Uint16(head[:]))
	case 127:
		_, err = io.ReadFull(f.screen, head[:8])
		length = binary.BigEndian.Uint64(head[:])
	}
	if err != nil || kind&0x80 == 0 || length > outputBytes {
		f.t.Fatalf("a frame of kind %#x and length %d: %v", kind, length, err)
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(f.screen, payload)
	return kind, payload, err
}

// read takes messages until output has come up to a byte.
func (f *forwarded) read(to int64) {
	f.t.Helper()
	for f.got < to {
		kind, p, err := f.message()
		if err != nil {
			f.t.Fatalf("at byte %d of %d: %v", f.got, to, err)
		}
		if kind != 0x82 {
			f.frames = append(f.frames, string(p))
			continue
		}
		if !bytes.Equal(p, pattern(f.got, len(p))) {
			f.t.Fatalf("bytes from %d are not what was printed", f.got)
		}
		f.got += int64(len(p))
	}
}

func (f *forwarded) credit(to int64) {
	f.t.Helper()
	if err := f.conn.Credit(to); err != nil {
		f.t.Fatal(err)
	}
}

func (f *forwarded) mustBeSilent() {
	f.t.Helper()
	_ = f.far.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := f.screen.Peek(1); err == nil {
		f.t.Fatal("there is output that was not allowed")
	}
	_ = f.far.SetReadDeadline(time.Now().Add(patience))
	f.screen.Reset(f.far)
}

func (f *forwarded) ended() error {
	f.t.Helper()
	select {
	case err := <-f.end:
		return err
	case <-time.After(patience):
		f.t.Fatal("the host does not hang up")
		return nil
	}
}

func textFrame(s string) []byte { return append([]byte{0x81, byte(len(s))}, s...) }

func TestForwardedOutputIsWholeAndOtherFramesComeBetweenItsMessages(t *testing.T) {
	const total = 3 << 20
	term := newTerminal(t, 1<<20)
	term.printAll(1000) // some before
	f := term.forward(0)
	f.credit(math.MaxInt64)
	done := term.printing(total)
	const frames = 200
	go func() {
		for n := range frames {
			if err := f.conn.Between(textFrame(strconv.Itoa(n))); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	f.read(total + 1000)
	term.mustPrint("the viewer takes all", done)
	for len(f.frames) < frames {
		_, p, err := f.message()
		if err != nil {
			t.Fatal(err)
		}
		f.frames = append(f.frames, string(p))
	}
	for n, got := range f.frames {
		if got != strconv.Itoa(n) {
			t.Fatalf("frame %d is %q", n, got)
		}
	}
	term.print(5)
	f.read(total + 1005)
	_ = term.screen.Close()
	if err := f.ended(); !errors.Is(err, ErrEnded) {
		t.Errorf("at the end: %v", err)
	}
	// The socket is the caller's again.
	if err := f.conn.Between(textFrame("late")); err == nil {
		t.Error("the host takes frames after its end")
	}
	if _, err := f.socket.Write(textFrame("bye")); err != nil {
		t.Fatal(err)
	}
	if kind, p, err := f.message(); err != nil || kind != 0x81 || string(p) != "bye" {
		t.Errorf("%#x %q %v", kind, p, err)
	}
}

func TestForwardedOutputGoesAsFarAsItsCredit(t *testing.T) {
	term := newTerminal(t, 1<<20)
	f := term.forward(0)
	term.printAll(500_000)
	f.mustBeSilent()
	f.credit(100_000)
	f.read(100_000)
	f.mustBeSilent()
	if err := f.conn.Between(textFrame("ping")); err != nil { // needs none
		t.Fatal(err)
	}
	if _, p, err := f.message(); err != nil || string(p) != "ping" {
		t.Fatalf("%q %v", p, err)
	}
	f.credit(400_000)
	f.read(250_000)
	f.credit(300_000)
	f.credit(math.MaxInt64)
	f.read(500_000)
	// The rest comes after the program's end, when it is asked for.
	f.credit(0)
	if err := f.conn.Between(textFrame("pong")); err != nil {
		t.Fatal(err)
	}
	if _, p, err := f.message(); err != nil || string(p) != "pong" { // the credit has come before it
		t.Fatalf("%q %v", p, err)
	}
	term.print(1000)
	_ = term.screen.Close()
	f.mustBeSilent()
	f.credit(math.MaxInt64)
	f.read(501_000)
	if err := f.ended(); !errors.Is(err, ErrEnded) {
		t.Errorf("at the end: %v", err)
	}
}

func TestForwardedViewerThatClosesEndsWithAWholeMessageAndKeepsItsPlace(t *testing.T) {
	const total = 2 << 20
	term := startPatient(t, newConfig(t, 1<<20), forEver) // of which a quarter is kept behind
	f := term.forward(0)
	f.credit(450_000)
	term.printing(total)
	f.read(300_000)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = f.conn.Close()
		_, _ = f.socket.Write(textFrame("bye")) // the socket is ours again
	}()
	for bye := false; !bye; {
		kind, p, err := f.message()
		switch {
		case err != nil:
			t.Fatal(err)
		case kind == 0x82 && bytes.Equal(p, pattern(f.got, len(p))):
			f.got += int64(len(p))
		case string(p) == "bye":
			bye = true
		default:
			t.Fatalf("at byte %d: %#x, %d bytes", f.got, kind, len(p))
		}
	}
	<-closed
	back := term.forward(f.got)
	if back.conn.Start() != f.got {
		t.Fatalf("it goes on at %d instead of %d", back.conn.Start(), f.got)
	}
	back.credit(math.MaxInt64)
	back.read(total)
}

// The good-bye and the end of the side channel come on two ways.
func TestForwardedViewersGoodByeCountsAfterTheEndOfItsSideChannel(t *testing.T) {
	term := startPatient(t, newConfig(t, 64<<10), forEver)
	f := term.forward(0)
	f.credit(1000)
	term.printAll(1000)
	f.read(1000)
	if !f.conn.side.Load().stop() {
		t.Fatal("the host keeps the socket")
	}
	if err := f.conn.Leave(); err != nil {
		t.Errorf("nobody hears it: %v", err)
	}
	_ = f.conn.Close()
	term.mustPrint("the viewer has said good-bye", term.printing(1<<20))
}

// A frame that comes while the host lets go must not come amid a message of its.
func TestForwardedSocketIsNotTheCallersUntilTheHostHasLetGo(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1]) // a host that does not run for a while
	conn, err := unixConn(pair[0])
	if err != nil {
		t.Fatal(err)
	}
	c := &Conn{}
	c.side.Store(&side{conn: conn})
	c.side.Load().stop()
	if err := c.Between(textFrame("pong")); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("the host has the socket still, and Between gives %v", err)
	}
}

// EcoLink may be killed, and then says nothing.
func TestForwardedSocketIsClosedWhenWhoForwardedItIsGone(t *testing.T) {
	term := newTerminal(t, 256<<10)
	f := term.forward(0)
	f.credit(math.MaxInt64)
	term.printAll(1000)
	f.read(1000)
	_ = f.socket.Close()
	_ = f.conn.side.Load().conn.Close()
	_ = f.conn.conn.Close()
	if _, _, err := f.message(); err != io.EOF {
		t.Errorf("the viewer's connection gives %v", err)
	}
}

func TestForwardedViewerThatTakesNothing(t *testing.T) {
	t.Run("is given up in time, and its socket with it", func(t *testing.T) {
		a := forEver
		a.stall = 300 * time.Millisecond
		term := startPatient(t, newConfig(t, 64<<10), a)
		f := term.forward(0)
		f.credit(math.MaxInt64)
		const total = 32 << 20 // more than any socket's buffers take
		term.mustPrint("for one who takes nothing", term.printing(total))
		_ = f.conn.Close()
		for {
			kind, p, err := f.message()
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if kind != 0x82 || !bytes.Equal(p, pattern(f.got, len(p))) {
				t.Fatalf("at byte %d: %#x, %d bytes", f.got, kind, len(p))
			}
			f.got += int64(len(p))
		}
		if f.got >= total {
			t.Error("it got all")
		}
	})
	t.Run("is given up in time without credit, although frames go to it", func(t *testing.T) {
		a := forEver
		a.stall = 300 * time.Millisecond
		term := startPatient(t, newConfig(t, 64<<10), a)
		f := term.forward(0)
		f.credit(1000)
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for f.conn.Between(textFrame("{}")) == nil { // signs of life
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		}()
		term.mustPrint("for one who acknowledges nothing", term.printing(1<<20))
		if err := f.ended(); err != io.EOF {
			t.Errorf("Read gives %v", err)
		}
	})
	t.Run("can be left at once", func(t *testing.T) {
		term := startPatient(t, newConfig(t, 64<<10), forEver)
		f := term.forward(0)
		f.credit(math.MaxInt64)
		term.printing(32 << 20)
		time.Sleep(300 * time.Millisecond) // the socket is full now
		began := time.Now()
		_ = f.conn.Leave()
		_ = f.conn.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		eventually(t, "the place is free", func() bool {
			s, err := ReadStatus(t.Context(), term.config.Dir)
			return err == nil && s.Viewers == 0
		})
	})
	t.Run("is left when its socket is shut down", func(t *testing.T) {
		term := startPatient(t, newConfig(t, 64<<10), forEver)
		f := term.forward(0)
		f.credit(math.MaxInt64)
		term.printing(32 << 20)
		time.Sleep(300 * time.Millisecond)
		_ = f.socket.CloseWrite()
		if err := f.ended(); err != io.EOF {
			t.Errorf("Read gives %v", err)
		}
	})
}

func TestMessageHeads(t *testing.T) {
	buf := make([]byte, headRoom+outputBytes)
	for _, length := range []int{1, 125, 126, 127, 255, 256, 65535, 65536} {
		at := messageHead(buf, length)
		f := &forwarded{t: t, screen: bufio.NewReader(bytes.NewReader(buf[at : headRoom+length]))}
		if kind, p, err := f.message(); err != nil || kind != 0x82 || len(p) != length {
			t.Errorf("%d bytes: %#x, %d bytes, %v", length, kind, len(p), err)
		}
	}
}

func TestForwardNeedsASocketAndASideChannel(t *testing.T) {
	term := newTerminal(t, minScrollbackBytes)
	conn := term.raw("ATTACH -2 0 0\nf\x00\x00\x00")
	_, _ = io.Copy(io.Discard, conn) // it is hung up on
	c := term.attach(FromNow)        // and nobody else
	term.print(10)
	mustRead(t, c, 10)
}

// Who comes back may be quicker than the host is with the connection that was cut.
func TestThePlaceOfAViewerWhoIsBackAlreadyIsNotKept(t *testing.T) {
	r := newRing(newMemoryStore(64<<10), forEver)
	r.write(pattern(0, 1000))
	gone, back := readerOf(r, 0), readerOf(r, 1000)
	if n, err := gone.read(make([]byte, 2000)); n != 1000 || err != nil {
		t.Fatal(n, err)
	}
	back.resumed = true
	gone.leave(true)
	if len(r.lost) != 0 {
		t.Errorf("%d places are kept", len(r.lost))
	}
	back.leave(true)
	if len(r.lost) != 1 {
		t.Error("the place of who is cut off now is not kept")
	}
}

func TestASocketIsFreeOnlyWhenTheHostSaysSo(t *testing.T) {
	for _, c := range []struct {
		name string
		last func(host *net.UnixConn)
		told string // what the host has not read
		free bool
	}{
		{"it has let go", func(host *net.UnixConn) { _, _ = host.Write([]byte{sideFree}) }, "", true},
		{"it has let go amid news", func(host *net.UnixConn) { _, _ = host.Write([]byte{sideFree}) }, "credit", true},
		{"it was killed", func(*net.UnixConn) {}, "", false},
		{"it was killed amid news", func(*net.UnixConn) {}, "credit", false},
	} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := unixConn(pair[0])
		if err != nil {
			t.Fatal(err)
		}
		host, err := unixConn(pair[1])
		if err != nil {
			t.Fatal(err)
		}
		if c.told != "" {
			if _, err := ours.Write([]byte(c.told)); err != nil {
				t.Fatal(err)
			}
		}
		c.last(host)
		if err := host.Close(); err != nil {
			t.Fatal(err)
		}
		if s := (&side{conn: ours}); s.stop() != c.free {
			t.Errorf("%s: free %v", c.name, !c.free)
		}
	}
}
