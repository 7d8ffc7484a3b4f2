package main

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// cable is the network between a client and a box: it can be cut.
type cable struct {
	url         string
	connections atomic.Int64

	mu   sync.Mutex
	open map[net.Conn]struct{}
	dead bool // new connections are dropped at once
	wait sync.WaitGroup
}

func newCable(t testing.TB, to string) *cable {
	t.Helper()
	u, err := url.Parse(to)
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c := &cable{url: "http://" + l.Addr().String(), open: map[net.Conn]struct{}{}}
	c.wait.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			c.wait.Go(func() { c.join(near, u.Host) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.cut()
		c.wait.Wait()
	})
	return c
}

func (c *cable) join(near net.Conn, to string) {
	defer near.Close()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	c.mu.Lock()
	dead := c.dead
	if !dead {
		c.open[near], c.open[far] = struct{}{}, struct{}{}
	}
	c.mu.Unlock()
	if dead {
		return
	}
	c.connections.Add(1)
	var both sync.WaitGroup
	both.Go(func() { io.Copy(far, near); far.Close(); near.Close() })
	both.Go(func() { io.Copy(near, far); far.Close(); near.Close() })
	both.Wait()
	c.mu.Lock()
	delete(c.open, near)
	delete(c.open, far)
	c.mu.Unlock()
}

// cut drops every connection there is.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.Close()
	}
}

// unplug cuts, and until plugIn drops what is new.
func (c *cable) unplug() {
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	c.cut()
}

// eventually waits until something is so.
func eventually(t testing.TB, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to that")
		}
	}
}
