package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/agent"
)

// farShell is a shell whose output is known and whose connections break after
// some bytes each.
type farShell struct {
	mu     sync.Mutex
	out    []byte
	pieces []int // bytes that each connection gives before it is lost; then all
	oldest int64 // before it nothing is kept
	input  bytes.Buffer
	down   int // dials that fail from now on
	dials  []int64
	ends   bool
}

func (s *farShell) dial(_ context.Context, from int64) (agent.Terminal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials = append(s.dials, from)
	if s.down > 0 {
		s.down--
		return nil, errors.New("connection refused")
	}
	start := min(max(from, s.oldest), int64(len(s.out)))
	f := &farTerminal{shell: s, start: start, closed: make(chan struct{}), rest: s.out[start:], lost: true}
	if len(s.pieces) > 0 {
		f.rest = f.rest[:min(len(f.rest), s.pieces[0])]
		s.pieces = s.pieces[1:]
	} else {
		f.lost = !s.ends
	}
	return f, nil
}

type farTerminal struct {
	shell  *farShell
	start  int64
	rest   []byte
	lost   bool // not ended, but lost behind rest
	closed chan struct{}
	once   sync.Once
}

func (f *farTerminal) Start() int64 { return f.start }

func (f *farTerminal) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		if f.lost {
			return 0, errors.New("broken pipe")
		}
		return 0, agent.ErrTerminalEnded
	}
	n := copy(p, f.rest[:min(len(f.rest), 1+rand.IntN(100))])
	f.rest = f.rest[n:]
	return n, nil
}

func (f *farTerminal) Write(p []byte) (int, error) {
	f.shell.mu.Lock()
	defer f.shell.mu.Unlock()
	return f.shell.input.Write(p)
}

func (f *farTerminal) Resize(context.Context, uint16, uint16) error { return nil }
func (f *farTerminal) Prologue() []byte                             { return nil }
func (f *farTerminal) Windows() <-chan agent.TerminalWindow         { return nil }
func (f *farTerminal) Leave() error                                 { return f.Close() }
func (f *farTerminal) Close() error                                 { f.once.Do(func() { close(f.closed) }); return nil }

func attach(s *farShell, out, notices io.Writer) (*attachment, chan []byte) {
	typed := make(chan []byte)
	return &attachment{
		dial: s.dial, size: func() (uint16, uint16) { return 80, 24 }, resized: make(chan os.Signal),
		typed: typed, out: out, notice: &notice{w: notices},
	}, typed
}

func (a *attachment) begin(ctx context.Context) error {
	t, err := a.dial(ctx, -1)
	if err != nil {
		return err
	}
	return a.run(ctx, t)
}

func TestOutputIsExactAcrossLostConnections(t *testing.T) {
	known := make([]byte, 200_000)
	for n := range known {
		known[n] = byte(rand.Uint32())
	}
	synctest.Test(t, func(t *testing.T) {
		s := &farShell{out: known, ends: true}
		for range 30 {
			s.pieces = append(s.pieces, rand.IntN(6000))
		}
		s.pieces = append(s.pieces, 0, 0, 0) // up, but gone at once
		var out, notices bytes.Buffer
		a, _ := attach(s, &out, &notices)
		if err := a.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), known) {
			t.Errorf("%d bytes came out, want %d", out.Len(), len(known))
		}
	})
}

func TestTerminalComesBackWithinAMinuteAndSaysWhatItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &farShell{out: []byte("before|after"), pieces: []int{7}, ends: true}
		var out, notices bytes.Buffer
		a, _ := attach(s, &out, &notices)
		began := time.Now()
		first, err := a.dial(t.Context(), -1)
		if err != nil {
			t.Fatal(err)
		}
		s.down = 8
		if err := a.run(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if out.String() != "before|after" {
			t.Errorf("got %q", out.String())
		}
		if !strings.Contains(notices.String(), "connection lost") || !strings.HasSuffix(notices.String(), clearLine+restoreCursor) {
			t.Errorf("notices %q", notices.String())
		}
		if took := time.Since(began); took < 5*time.Second || took > time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

func TestTerminalGivesUpAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &farShell{out: []byte("before|after"), pieces: []int{7}, ends: true}
		a, _ := attach(s, io.Discard, io.Discard)
		first, err := a.dial(t.Context(), -1)
		if err != nil {
			t.Fatal(err)
		}
		s.down = 1000
		began := time.Now()
		err = a.run(t.Context(), first)
		if took := time.Since(began); !errors.Is(err, errGaveUp) || took < 50*time.Second || took > 61*time.Second {
			t.Errorf("got %v after %s", err, took)
		}
		if n := len(s.dials); n < 12 || n > 30 {
			t.Errorf("%d tries", n)
		}
	})
}

func TestServerThatDropsEveryConnectionDoesNotHoldForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &farShell{pieces: make([]int, 10_000)}
		a, _ := attach(s, io.Discard, io.Discard)
		if err := a.begin(t.Context()); !errors.Is(err, errGaveUp) {
			t.Errorf("got %v", err)
		}
		if len(s.dials) > 30 {
			t.Errorf("%d tries", len(s.dials))
		}
	})
}

func TestWhileTheConnectionIsLostTypingIsDroppedAndCtrlCLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &farShell{pieces: []int{0}, down: 0}
		a, typed := attach(s, io.Discard, io.Discard)
		first, err := a.dial(t.Context(), -1)
		if err != nil {
			t.Fatal(err)
		}
		s.down = 1000
		done := make(chan error, 1)
		go func() { done <- a.run(t.Context(), first) }()
		time.Sleep(3 * time.Second)
		typed <- []byte("rm -rf /\r")
		select {
		case err := <-done:
			t.Fatalf("left with %v", err)
		case <-time.After(time.Second):
		}
		typed <- []byte{ctrlC}
		if err := <-done; !errors.Is(err, errLeft) {
			t.Errorf("got %v", err)
		}
		if s.input.Len() > 0 {
			t.Errorf("typed %q", s.input.String())
		}
	})
}

func TestRefusalEndsTheTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &farShell{pieces: []int{0}}
		a, _ := attach(s, io.Discard, io.Discard)
		first, err := a.dial(t.Context(), -1)
		if err != nil {
			t.Fatal(err)
		}
		a.dial = func(context.Context, int64) (agent.Terminal, error) {
			return nil, &apiError{Status: 409, Message: "instance 1 is terminated"}
		}
		began := time.Now()
		err = a.run(t.Context(), first)
		if err == nil || err.Error() != "instance 1 is terminated" || time.Since(began) > time.Second {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
}

func TestMissingOutputAndANewShellAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &farShell{out: []byte("0123456789end"), pieces: []int{3}, ends: true}
		var out, notices bytes.Buffer
		a, _ := attach(s, &out, &notices)
		first, err := a.dial(t.Context(), -1)
		if err != nil {
			t.Fatal(err)
		}
		s.oldest = 10
		if err := a.run(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if out.String() != "012end" || !strings.Contains(notices.String(), "7 B of output") {
			t.Errorf("out %q, notices %q", out.String(), notices.String())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &farShell{out: []byte("the first shell"), pieces: []int{15}, ends: true}
		var out, notices bytes.Buffer
		a, _ := attach(s, &out, &notices)
		first, err := a.dial(t.Context(), -1)
		if err != nil {
			t.Fatal(err)
		}
		s.out = []byte("# ")
		if err := a.run(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if out.String() != "the first shell# " || !strings.Contains(notices.String(), "this is a new one") {
			t.Errorf("out %q, notices %q", out.String(), notices.String())
		}
	})
}
