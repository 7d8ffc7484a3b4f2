package session

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAnAttachGetsExactlyTheMissedBytes(t *testing.T) {
	const ring = 8 << 10
	term := newTerminal(t, ring)
	term.printAll(5000)
	rows := func(oldest int64) []struct{ from, start int64 } {
		end := term.printed
		return []struct{ from, start int64 }{
			{FromOldest, oldest}, {FromNow, end}, {0, oldest}, {oldest, oldest}, {oldest + 1, oldest + 1},
			{end - 1, end - 1}, {end, end}, {end + 1, end}, {1<<63 - 1, end},
		}
	}
	check := func(oldest int64) {
		t.Helper()
		var clients []*Conn
		for _, row := range rows(oldest) {
			c := term.attach(row.from)
			if row.from >= 0 && row.from < oldest { // as much of it as makes sense by itself
				row.start = max(row.start, c.Start())
			}
			if c.Start() != row.start || c.Offset() != row.start {
				t.Errorf("attach at %d: start %d, offset %d, want %d", row.from, c.Start(), c.Offset(), row.start)
			}
			clients = append(clients, c)
		}
		term.print(7)
		for _, c := range clients {
			mustRead(t, c, term.printed)
		}
	}
	check(0)
	term.printAll(2*ring + 77)
	check(term.printed - ring)
}

func TestEveryClientGetsEveryByteInOrder(t *testing.T) {
	const total = 1 << 20
	term := newTerminal(t, 2*total)
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			offset := int64(0)
			for offset < total { // leave and come back again and again
				c, err := Dial(t.Context(), term.config.Dir, offset, Window{})
				if err != nil || c.Start() != offset {
					t.Errorf("attach at %d: %v", offset, err)
					return
				}
				_ = c.conn.SetReadDeadline(time.Now().Add(patience))
				for stay := rng.IntN(20); stay >= 0 && offset < total; stay-- {
					p := make([]byte, 1+rng.IntN(64<<10))
					n, err := c.Read(p)
					if err != nil || string(p[:n]) != string(pattern(offset, n)) {
						t.Errorf("client %d at %d: %d bytes, %v", i, offset, n, err)
						offset = total
					}
					offset += int64(n)
				}
				_ = c.Close()
			}
		})
	}
	rng := rand.New(rand.NewPCG(2, 2))
	for term.printed < total {
		term.print(min(1+rng.IntN(20<<10), int(total-term.printed)))
	}
	clients.Wait()
}

func TestAClientThatOnlyWatchesGetsTheRestAfterTheEnd(t *testing.T) {
	const total = 1 << 20 // more than a socket holds
	term := newTerminal(t, total)
	c := term.attach(0)
	term.print(total)
	_ = term.screen.Close()
	eventually(t, "the end mark", func() bool { _, _, ended := Ended(term.config.Dir); return ended })
	if _, err := c.Write([]byte("typed too late")); err != nil {
		t.Fatalf("typing after the end: %v", err)
	}
	mustRead(t, c, total)
	mustEnd(t, c)
	term.exit()
	if total, reason, ended := Ended(term.config.Dir); !ended || reason != "" || total != term.printed {
		t.Fatalf("the mark says %d, %q, %v", total, reason, ended)
	}
	if _, err := os.Lstat(filepath.Join(term.config.Dir, socketName)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the socket is left: %v", err)
	}
	if _, err := Dial(t.Context(), term.config.Dir, 0, Window{}); !errors.Is(err, ErrEnded) {
		t.Fatalf("attach after the end: %v", err)
	}
}

// TestTheEndIsNeverTakenForAnAccident looks at the moment of the end many
// times: the mark must be there before any client sees its connection close.
func TestTheEndIsNeverTakenForAnAccident(t *testing.T) {
	for round := range 60 {
		term := newTerminal(t, minScrollbackBytes)
		var clients sync.WaitGroup
		for range 4 {
			c := term.attach(0)
			clients.Go(func() {
				_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
				if !errors.Is(err, ErrEnded) || c.Offset() != 5 {
					t.Errorf("round %d: %v at byte %d", round, err, c.Offset())
				}
			})
		}
		clients.Go(func() { // attaches at any moment: nothing else may come out
			for {
				c, err := Dial(t.Context(), term.config.Dir, FromNow, Window{})
				if err != nil {
					if !errors.Is(err, ErrEnded) {
						t.Errorf("round %d: attach: %v", round, err)
					}
					return
				}
				_ = c.Close()
			}
		})
		term.print(5)
		term.exit()
		clients.Wait()
		if t.Failed() {
			return
		}
	}
}

func TestTheHostIsToldToStop(t *testing.T) {
	term := newTerminal(t, minScrollbackBytes)
	c := term.attach(0)
	term.print(100)
	mustRead(t, c, 100)
	term.stop()
	_, err := c.Read(make([]byte, 1))
	if !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "told to stop") {
		t.Fatalf("got %v", err)
	}
	if err := <-term.done; err != nil {
		t.Fatal(err)
	}
}

func TestALongFolderNameWorks(t *testing.T) {
	for _, length := range []int{maxSocketPath - len("/sock"), maxSocketPath - len("/sock") + 1, 600} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			config := newConfig(t, minScrollbackBytes)
			for len(config.Dir) < length {
				config.Dir += "/" + strings.Repeat("d", min(200, max(1, length-len(config.Dir)-1)))
			}
			if len(config.Dir) != length && length < 600 {
				t.Fatalf("the folder's name has %d bytes", len(config.Dir))
			}
			if err := os.MkdirAll(config.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := Dial(t.Context(), config.Dir, 0, Window{}); !errors.Is(err, ErrEnded) {
				t.Fatalf("attach before there is a host: %v", err)
			}
			before := openDescriptors(t)
			term := startTerminal(t, config)
			c := term.attach(FromOldest)
			term.print(10)
			mustRead(t, c, 10)
			term.exit()
			mustEnd(t, c)
			_ = c.Close()
			_ = term.screen.Close()
			if _, err := os.Lstat(filepath.Join(config.Dir, socketName)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket is left: %v", err)
			}
			if after := openDescriptors(t); after > before+1 { // our end of the announcement's pipe
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
