package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"ecolink/agent/keeper/session"
	"ecolink/web/socket"
)

// Goals of what survives, and of memory.
const (
	goalSessionMiB = 1.0
	idleSessions   = 30 // of the 32 that an instance may have
	// idleTime is how long nothing is done before memory is looked at: Go collects
	// what opening a terminal has left within two minutes.
	idleTime = 140 * time.Second
)

// survive cuts the socket and kills EcoLink in the middle of a long output, and
// compares what came with what was printed.
func (m *terminalMeasure) survive(ctx context.Context, ours *ourTerminals, rep *report) error {
	want := []byte(bulkText())
	for n, fault := range []struct {
		name string
		do   func() error // beside cutting the connection
	}{
		{"the socket is killed", func() error { return nil }},
		{"EcoLink is killed", func() error { return ours.restart(ctx) }},
	} {
		got, err := cutOff(ctx, ours, "cut-"+strconv.Itoa(n), fault.do)
		if err != nil {
			return fmt.Errorf("%s: %w", fault.name, err)
		}
		arrived := len(want)
		if at := bytes.Index(got, []byte("\n1\r\n2\r\n")); at < 0 || len(got) < at+1+len(want) ||
			sha256.Sum256(got[at+1:at+1+len(want)]) != sha256.Sum256(want) {
			arrived = 0 // not what was printed
		}
		rep.beside(bulkCommand+", bytes that came, "+fault.name, "bytes", float64(arrived), more, "printed", float64(len(want)), 1)
	}
	return nil
}

// cutOff runs bulkCommand and reads it over two connections: the first is cut,
// without a good-bye, when a third of the output has
// come.
func cutOff(ctx context.Context, ours *ourTerminals, session string, fault func() error) ([]byte, error) {
	var wire cuttable
	term, err := ours.attach(ctx, session, -1, socket.WithHTTPClient(wire.client()))
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(term, bulkProgram+bulkCommand[len("seq"):]+"; echo at-$((40+2))-end\n"); err != nil {
		return nil, err
	}
	var got bytes.Buffer
	buf := make([]byte, 32<<10)
	for from, cut := term.Start(), false; ; {
		n, err := term.Read(buf)
		got.Write(buf[:n])
		if bytes.Contains(got.Bytes()[max(0, got.Len()-n-16):], []byte("at-42-end")) {
			return got.Bytes(), term.Close()
		}
		if !cut && int64(got.Len()) > bulkBytes/3 {
			cut = true
			if err := fault(); err != nil {
				return nil, err
			}
			wire.cut()
			continue
		}
		if err == nil {
			continue
		}
		_ = term.Close() // it is broken
		for deadline := time.Now().Add(terminalWait); ; time.Sleep(50 * time.Millisecond) {
			if term, err = ours.attach(ctx, session, from+int64(got.Len())); err == nil {
				break
			}
			if time.Now().After(deadline) || ctx.Err() != nil {
				return nil, err
			}
		}
		if term.Start() != from+int64(got.Len()) {
			return nil, fmt.Errorf("after byte %d it goes on at %d", from+int64(got.Len()), term.Start())
		}
	}
}

// cuttable makes connections that can be cut.
type cuttable struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cuttable) client() *http.Client {
	var d net.Dialer
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.conns = append(c.conns, conn)
		}
		return conn, err
	}}}
}

// cut resets the connections: the other side gets no good-bye.
func (c *cuttable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	c.conns = nil
}

// endSessions ends all terminals.
func (o *ourTerminals) endSessions(ctx context.Context) error {
	resp, err := o.request(ctx, http.MethodGet, o.place().Path+"s", nil)
	if err != nil {
		return err
	}
	var list struct{ Data []struct{ Name string } }
	err = json.NewDecoder(resp.Body).Decode(&list)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	for _, s := range list.Data {
		resp, err := o.request(ctx, http.MethodDelete, o.place().Path+"s/"+s.Name, nil)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
	}
	return nil
}

// memory opens idle terminals and tells what one takes: its own host, and what all
// other processes of EcoLink's have grown by, those in the container apart.
func (m *terminalMeasure) memory(ctx context.Context, ours *ourTerminals, rep *report) error {
	// EcoLink has just been started again: what it takes once is no session's.
	for _, warmUp := range []func() error{
		func() error { return ours.endSessions(ctx) },
		func() error { return ours.openIdle(ctx, 2) },
		func() error { return ours.endSessions(ctx) },
	} {
		if err := warmUp(); err != nil {
			return err
		}
	}
	time.Sleep(idleTime)
	hostsBefore, restBefore, err := processMemory(ours.dir)
	if err != nil {
		return err
	}
	if err := ours.openIdle(ctx, idleSessions); err != nil {
		return err
	}
	time.Sleep(idleTime)
	hosts, rest, err := processMemory(ours.dir)
	if err != nil {
		return err
	}
	// Go gives memory back late: what the rest shrinks by is not the sessions' doing.
	taken := hosts - hostsBefore + max(0, rest-restBefore)
	rep.limit("memory of an idle session", "MiB", float64(taken)/idleSessions/(1<<20), goalSessionMiB)
	return nil
}

// openIdle opens sessions that nobody looks at.
func (o *ourTerminals) openIdle(ctx context.Context, count int) error {
	for range count {
		s, err := openShell(ctx, o.open)
		if err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

// processMemory is the proportional share of memory (PSS) of every process whose
// command line names the folder: of terminals' hosts, and of the rest.
func processMemory(dir string) (hosts, rest int64, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, 0, err
	}
	for _, e := range entries {
		command, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || !strings.Contains(string(command), dir) {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "smaps_rollup"))
		if err != nil {
			continue // it has just ended
		}
		for line := range strings.Lines(string(text)) {
			var kib int64
			n, _ := fmt.Sscanf(line, "Pss: %d kB", &kib)
			switch {
			case n != 1:
			case strings.Contains(string(command), "role\x00"+session.Role+"\x00"):
				hosts += kib << 10
			default:
				rest += kib << 10
			}
		}
	}
	return hosts, rest, nil
}
