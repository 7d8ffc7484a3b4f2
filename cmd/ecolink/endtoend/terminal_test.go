package endtoend

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ecolink/agent"
	"ecolink/web/socket"
)

// follow reads a terminal across as many connections as it takes, until a text
// comes, and gives all that it printed from the first byte on.
type follow struct {
	b   *box
	id  int64
	url atomic.Pointer[string] // of the server, or of the way there
	got bytes.Buffer

	mu   sync.Mutex
	conn *socket.TerminalConn
	cuts int
}

func (f *follow) until(text string) {
	f.b.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for first := true; ; first = false {
		from := int64(f.got.Len())
		if first {
			from = -1
		}
		address := fmt.Sprintf("%s/v1/gpu-instances/%d/terminal", *f.url.Load(), f.id)
		term, err := socket.Dial(context.Background(), address, f.b.key, socket.From(from), socket.WithWindow(100, 30))
		if err != nil {
			if time.Now().After(deadline) {
				f.b.t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if term.Start() != int64(f.got.Len()) {
			f.b.t.Fatalf("after %d bytes the terminal goes on at %d", f.got.Len(), term.Start())
		}
		f.mu.Lock()
		f.conn = term
		f.cuts++
		f.mu.Unlock()
		done := f.read(term, text)
		_ = term.Close()
		if done {
			return
		}
		if time.Now().After(deadline) {
			f.b.t.Fatalf("no %q in %d bytes", text, f.got.Len())
		}
	}
}

func (f *follow) read(term *socket.TerminalConn, text string) (found bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := term.Read(buf)
		f.mu.Lock()
		f.got.Write(buf[:n])
		f.mu.Unlock()
		tail := f.got.Bytes()[max(0, f.got.Len()-n-len(text)):]
		if bytes.Contains(tail, []byte(text)) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

func (f *follow) length() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.got.Len()
}

// TestNoByteOfALongOutputIsLostWhenSocketAndServerAreKilled cuts the connection
// without a good-bye, kills the server and stops it in order, while a program
// prints several times what is kept for who comes back.
func TestNoByteOfALongOutputIsLostWhenSocketAndServerAreKilled(t *testing.T) {
	const lines = 2_000_000 // 15 MB with their carriage returns; 8 MiB are kept
	b := newBox(t, 1)
	proxy := newCutter(t, strings.TrimPrefix(b.url, "http://"))
	i := b.await(b.launch("trainer").ID, "running")
	cuttable := "http://" + proxy.address()
	f := &follow{b: b, id: i.ID}
	f.url.Store(&cuttable)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.until("the-end-42")
	}()
	b.eventually("the shell is there", func() bool { return f.length() > 0 })
	term := attachTo(t, b.url, b.key, i.ID)
	// busybox's seq writes each line by itself, which takes a busy machine minutes.
	typeOnly(t, term, fmt.Sprintf("seq 1 %d | cat; echo the-end-$((40+2))\n", lines))
	_ = term.Leave()
	reached := func(n int) {
		t.Helper()
		b.eventually(fmt.Sprintf("%d bytes have come", n), func() bool { return f.length() > n })
	}
	reached(1_000_000)
	proxy.cut()
	reached(3_000_000)
	b.kill()
	time.Sleep(time.Second)
	b.start()
	reached(6_000_000)
	b.stop()
	b.start()
	reached(9_000_000)
	proxy.cut()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("no end after %d bytes", f.length())
	}
	if f.cuts < 4 {
		t.Errorf("only %d connections: nothing was cut", f.cuts)
	}
	var want strings.Builder
	for n := range lines {
		want.WriteString(strconv.Itoa(n + 1))
		want.WriteString("\r\n")
	}
	all := f.got.String()
	at := strings.Index(all, "\n1\r\n2\r\n")
	if at < 0 || len(all) < at+1+want.Len() {
		t.Fatalf("%d bytes came; the output begins at %d", len(all), at)
	}
	if sha256.Sum256([]byte(all[at+1:at+1+want.Len()])) != sha256.Sum256([]byte(want.String())) {
		t.Error("what came is not what was printed")
	}
}

func attachTo(t *testing.T, url, key string, id int64) *socket.TerminalConn {
	t.Helper()
	term, err := socket.Dial(context.Background(), fmt.Sprintf("%s/v1/gpu-instances/%d/terminal", url, id), key, socket.WithWindow(100, 30))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = term.Close() })
	return term
}

func typeOnly(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// TestTwoHundredTerminalsAtOnce opens them on several instances, types into each
// and sees its own answer; then it looks at what an idle one costs.
func TestTwoHundredTerminalsAtOnce(t *testing.T) {
	const instances, sessions = 7, 29 // 203
	b := newBox(t, instances)
	var ids []int64
	for n := range instances {
		ids = append(ids, b.launch(fmt.Sprintf("trainer-%d", n)).ID)
	}
	for _, id := range ids {
		b.await(id, "running")
	}
	before := ourMemory(t, b)
	var all, readers sync.WaitGroup
	terms := make([]*socket.TerminalConn, instances*sessions)
	answers := make(chan error, len(terms))
	slots := make(chan struct{}, 8)
	for n := range terms {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			address := fmt.Sprintf("%s/v1/gpu-instances/%d/terminal", b.url, ids[n%instances])
			term, err := socket.Dial(context.Background(), address, b.key, socket.WithSession(fmt.Sprintf("s%d", n/instances)))
			if err != nil {
				t.Errorf("terminal %d: %v", n, err)
				return
			}
			terms[n] = term
			readers.Go(func() { answers <- awaitMine(term, n) })
		})
	}
	all.Wait()
	t.Cleanup(func() {
		for _, term := range terms {
			if term != nil {
				all.Go(func() { _ = term.Close() })
			}
		}
		all.Wait()
		readers.Wait()
	})
	if t.Failed() {
		return
	}
	for n, term := range terms {
		typeOnly(t, term, fmt.Sprintf("echo mine-$((%d+1000))-\n", n))
	}
	for range terms {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Second)
	each := func(what string) (sum int64) {
		t.Helper()
		for program, bytes := range ourMemory(t, b) {
			share := (bytes - before[program]) / int64(len(terms))
			t.Logf("%s takes %d KiB of %s", what, share>>10, program)
			if program != filepath.Base(binary) {
				sum += share
			}
		}
		return sum
	}
	each("an idle session with a viewer")
	for n, term := range terms {
		all.Go(func() { _ = term.Close() })
		terms[n] = nil
	}
	all.Wait()
	time.Sleep(2 * time.Second)
	// EcoLink itself has nothing of them any more but what is not collected yet.
	if took := each("an idle session"); took > 1<<20 {
		t.Errorf("an idle session takes %d KiB", took>>10)
	}
}

// awaitMine reads until the nth terminal has answered. A viewer reads from the
// beginning: one who does not for ten seconds is taken for dead.
func awaitMine(term io.Reader, n int) error {
	want := fmt.Sprintf("mine-%d-", n+1000)
	var got bytes.Buffer
	buf := make([]byte, 4096)
	for !strings.Contains(got.String(), want) {
		k, err := term.Read(buf)
		got.Write(buf[:k])
		if err != nil {
			return fmt.Errorf("terminal %d: %w after %q", n, err, got.String())
		}
	}
	return nil
}

// ourMemory is the proportional share of memory (PSS) of all processes of a box,
// except those in its containers, by program.
func ourMemory(t *testing.T, b *box) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		command, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if pid != b.serve.Process.Pid && !strings.Contains(string(command), b.dir) {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "smaps_rollup"))
		if err != nil {
			continue // it has just ended
		}
		for line := range strings.Lines(string(text)) {
			var kib int64
			if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kib); n == 1 {
				program, _, _ := strings.Cut(string(command), "\x00")
				all[filepath.Base(program)] += kib << 10
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("no memory")
	}
	return all
}

func TestAShellThatEndedWhileNobodyLookedShowsItsLastWords(t *testing.T) {
	b := newBox(t, 1)
	i := b.await(b.launch("trainer").ID, "running")
	term := b.attach(i.ID, -1)
	seen := typeLine(t, term, "echo answer=$((6*7))", "answer=42\r\n")
	offset := term.Start() + int64(len(seen))
	typeOnly(t, term, "sleep 1; echo last=$((1+1)); exit\n")
	_ = term.Close()
	time.Sleep(3 * time.Second)
	again := b.attach(i.ID, offset)
	rest, err := io.ReadAll(again)
	if !errors.Is(err, agent.ErrTerminalEnded) || !strings.Contains(string(rest), "last=2\r\n") {
		t.Fatalf("%q, %v", rest, err)
	}
}

func TestAPasteThatIsCutOffLeavesTheShellWell(t *testing.T) {
	b := newBox(t, 1)
	proxy := newCutter(t, strings.TrimPrefix(b.url, "http://"))
	i := b.await(b.launch("trainer").ID, "running")
	typeLine(t, b.attach(i.ID, -1), "echo answer=$((6*7))", "answer=42\r\n")
	term := attachTo(t, "http://"+proxy.address(), b.key, i.ID)
	typeOnly(t, term, "sleep 2; cat >/dev/null\n") // reads nothing at first
	go func() { _, _ = term.Write(bytes.Repeat([]byte("a line of a paste of a megabyte\n"), 1<<15)) }()
	time.Sleep(500 * time.Millisecond)
	proxy.cut()
	other := b.attach(i.ID, -1)
	b.eventually("another can type", func() bool {
		typeOnly(t, other, "\x03\x04")
		time.Sleep(time.Second)
		f := make(chan bool, 1)
		typeOnly(t, other, "\necho still-$((40+2))-here\n")
		go func() {
			var got bytes.Buffer
			buf := make([]byte, 4096)
			for until := time.Now().Add(3 * time.Second); time.Now().Before(until); {
				n, err := other.Read(buf)
				got.Write(buf[:n])
				if strings.Contains(got.String(), "still-42-here") || err != nil {
					f <- err == nil
					return
				}
			}
			f <- false
		}()
		return <-f
	})
}
