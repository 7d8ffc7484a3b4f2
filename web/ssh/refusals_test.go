package ssh

import (
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A client that asks for channels and reads no answers must not have them pile up.
func TestRefusalsThatNobodyReadsDoNotPileUp(t *testing.T) {
	w := newWorld(t)
	w.enter() // Serve has begun
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() { // as Serve does, with little room in the kernel's buffers
		conn, err := l.Accept()
		if err != nil || w.server.admit(conn) != nil {
			return
		}
		_ = conn.(*net.TCPConn).SetWriteBuffer(4 << 10)
		defer w.server.dismiss(conn)
		w.server.handle(t.Context(), conn)
	})
	raw, err := (&net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}).Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	deaf := &deafConn{Conn: raw, heard: make(chan struct{})}
	conn, _, _, err := ssh.NewClientConn(deaf, w.address, &ssh.ClientConfig{
		User: "trainer", Auth: []ssh.AuthMethod{ssh.PublicKeys(w.key)}, HostKeyCallback: ssh.FixedHostKey(w.server.key.signer.PublicKey()),
	})
	if err != nil {
		t.Fatal(err)
	}
	deaf.deaf.Store(true)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer close(deaf.heard)
	defer raw.Close() // before the others are waited for
	most := 0
	pile := func() int {
		stacks := make([]byte, 64<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "ssh.(*channel).Reject(")
	}
	for range 4000 {
		asking.Go(func() { _, _, _ = conn.OpenChannel("x11", nil) })
	}
	for deadline := time.Now().Add(10 * time.Second); most < maxRefusals && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		most = max(most, pile())
	}
	time.Sleep(200 * time.Millisecond)
	most = max(most, pile())
	if most != maxRefusals {
		t.Errorf("%d refusals wait, and %d may", most, maxRefusals)
	}
}

// deafConn stops reading when it is told to.
type deafConn struct {
	net.Conn
	deaf  atomic.Bool
	heard chan struct{}
}

func (d *deafConn) Read(p []byte) (int, error) {
	if d.deaf.Load() {
		<-d.heard
		return 0, io.EOF
	}
	return d.Conn.Read(p)
}
