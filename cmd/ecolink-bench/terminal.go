package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"ecolink/packaging/sample"
)

// Goals of the terminal, although ours crosses a container and a network.
const (
	goalEchoAbove  = 100 * time.Microsecond // of our median above the raw PTY's
	goalEchoPeer   = 1.0                    // our p99 beside the peer's
	goalFlood      = 2.0                    // our p99 under a flood beside that without
	goalThroughput = 0.9                    // of the raw PTY's
)

// How the terminals are worked.
const (
	keystrokes   = 300 // in a round
	keysOnALine  = 60
	keyPause     = 3 * time.Millisecond // and up to as much again
	terminalWait = 30 * time.Second
	bulkCommand  = "seq 1 2000000"
)

// measureTerminal measures what a person at a keyboard notices.
func measureTerminal(ctx context.Context, opts options) (rep report, err error) {
	dir, err := os.MkdirTemp("", "ecobench")
	if err != nil {
		return report{}, err
	}
	var clean cleanup
	clean.add(func() error { return os.RemoveAll(dir) })
	defer func() { err = errors.Join(err, clean.run()) }()
	if err := os.Chmod(dir, 0o711); err != nil { // for root in a user namespace, who is nobody here
		return report{}, err
	}
	ours, err := newOurTerminals(ctx, opts, dir, &clean)
	if err != nil {
		return report{}, err
	}
	peer, err := newShellInABox(ctx, dir, &clean)
	if err != nil {
		return report{}, err
	}
	m := &terminalMeasure{all: []terminals{ours, rawPTY{}, peer}, echo: map[string]timings{}, bulk: map[string][]float64{}}
	for round := range opts.rounds {
		for n := range m.all {
			if err := m.round(ctx, m.all[(n+round)%len(m.all)]); err != nil {
				return report{}, err
			}
		}
	}
	m.tell(&rep)
	if err := m.survive(ctx, ours, &rep); err != nil {
		return rep, err
	}
	return rep, m.memory(ctx, ours, &rep)
}

func newOurTerminals(ctx context.Context, opts options, dir string, clean *cleanup) (*ourTerminals, error) {
	registry, err := sample.Serve(nil)
	if err != nil {
		return nil, err
	}
	clean.add(registry.Close)
	extra, err := localProgram(bulkProgram)
	if err != nil {
		return nil, err
	}
	busybox, err := sample.Busybox(extra...)
	if err != nil {
		return nil, err
	}
	image, err := registry.Push("bench/busybox:1", busybox)
	if err != nil {
		return nil, err
	}
	e, err := newEcoLink(ctx, opts, dir, image, clean)
	if err != nil {
		return nil, err
	}
	o := &ourTerminals{ecolink: e, instance: "terminal"}
	clean.add(func() error { return e.remove(context.WithoutCancel(ctx), o.instance) })
	return o, e.start(ctx, o.instance)
}

// terminalMeasure is what was measured, by contender.
type terminalMeasure struct {
	all  []terminals
	echo map[string]timings   // "" and "flood" after the contender's name
	bulk map[string][]float64 // MB/s
}

const underFlood = ", under a flood"

// round measures one contender once: echoes, echoes while another terminal of it
// prints without end, and a long output.
func (m *terminalMeasure) round(ctx context.Context, who terminals) error {
	s, err := openShell(ctx, who.open)
	if err != nil {
		return fmt.Errorf("%s: %w", who.name(), err)
	}
	defer s.Close()
	echoes, err := s.echoes(keystrokes)
	if err != nil {
		return fmt.Errorf("%s: keystrokes: %w", who.name(), err)
	}
	m.echo[who.name()] = append(m.echo[who.name()], echoes...)
	rate, err := s.throughput()
	if err != nil {
		return fmt.Errorf("%s: %s: %w", who.name(), bulkCommand, err)
	}
	m.bulk[who.name()] = append(m.bulk[who.name()], rate)
	flood, err := startFlood(ctx, who)
	if err != nil {
		return fmt.Errorf("%s: %w", who.name(), err)
	}
	echoes, err = s.echoes(keystrokes)
	if err = errors.Join(err, flood.stop()); err != nil {
		return fmt.Errorf("%s: keystrokes under a flood: %w", who.name(), err)
	}
	m.echo[who.name()+underFlood] = append(m.echo[who.name()+underFlood], echoes...)
	return nil
}

func (m *terminalMeasure) tell(rep *report) {
	ours, raw, peer := m.all[0].name(), m.all[1].name(), m.all[2].name()
	echo := func(who string, q float64) time.Duration { return quantile(m.echo[who], q) }
	above := echo(ours, 0.5) - echo(raw, 0.5)
	rep.compare("keystroke echo, p50", echo(ours, 0.5), raw, echo(raw, 0.5), 0)
	rep.within("keystroke echo, p50, above raw PTY", above, goalEchoAbove)
	rep.compare("keystroke echo, p50", echo(ours, 0.5), peer, echo(peer, 0.5), 0)
	rep.compare("keystroke echo, p99", echo(ours, 0.99), raw, echo(raw, 0.99), 0)
	rep.compare("keystroke echo, p99", echo(ours, 0.99), peer, echo(peer, 0.99), goalEchoPeer)
	rep.compare("keystroke echo under a flood, p99", echo(ours+underFlood, 0.99), "ecolink, idle", echo(ours, 0.99), goalFlood)
	for _, who := range []string{raw, peer} {
		rep.compare("keystroke echo under a flood, p99", echo(ours+underFlood, 0.99), who, echo(who+underFlood, 0.99), 0)
	}
	for _, who := range []string{raw, peer} { // how far the machine itself is from the goal
		rep.compare("the same of "+who, echo(who+underFlood, 0.99), who+", idle", echo(who, 0.99), 0)
	}
	rate := func(who string) float64 { return quantile(m.bulk[who], 0.5) }
	rep.beside(bulkCommand, "MB/s", rate(ours), more, raw, rate(raw), goalThroughput)
	rep.beside(bulkCommand, "MB/s", rate(ours), more, peer, rate(peer), 0)
	for _, t := range m.all {
		rep.noise = append(rep.noise, fmt.Sprintf("noise: %s, echo: %s", t.name(), m.echo[t.name()].spread()),
			fmt.Sprintf("noise: %s, echo under a flood: %s", t.name(), m.echo[t.name()+underFlood].spread()),
			fmt.Sprintf("noise: %s, %s: %s", t.name(), bulkCommand, spread(m.bulk[t.name()], "MB/s")))
	}
}

// shell is an open terminal whose output is read as fast as it comes.
type shell struct {
	io.ReadWriteCloser
	output chan []byte
	seen   chan []byte // buffers of output that has been looked at: garbage would be measured too
	failed error       // read after output is closed
}

// opener opens a terminal.
type opener func(context.Context) (io.ReadWriteCloser, error)

func openShell(ctx context.Context, open opener) (*shell, error) {
	t, err := open(ctx)
	if err != nil {
		return nil, err
	}
	s := &shell{ReadWriteCloser: t, output: make(chan []byte, 64), seen: make(chan []byte, 66)}
	go s.read()
	s.quiet(300 * time.Millisecond)
	return s, nil
}

func (s *shell) Close() error {
	err := s.ReadWriteCloser.Close()
	for range s.output {
	}
	return err
}

func (s *shell) read() {
	defer close(s.output)
	for {
		var buf []byte
		select {
		case buf = <-s.seen:
		default:
			buf = make([]byte, 32<<10)
		}
		n, err := s.Read(buf)
		if n > 0 {
			s.output <- buf[:n]
		}
		if err != nil {
			s.failed = err
			return
		}
	}
}

// drop has the buffer of some output used again.
func (s *shell) drop(p []byte) {
	select {
	case s.seen <- p[:cap(p)]:
	default:
	}
}

// quiet drops output until none has come for a while.
func (s *shell) quiet(d time.Duration) {
	for {
		select {
		case p, open := <-s.output:
			if !open {
				return
			}
			s.drop(p)
		case <-time.After(d):
			return
		}
	}
}

// await reads on until the text has come.
func (s *shell) await(text string) (read int64, err error) {
	deadline := time.After(terminalWait)
	var tail []byte
	for {
		select {
		case p, open := <-s.output:
			if !open {
				return read, s.failed
			}
			read += int64(len(p))
			tail = append(tail, p...)
			s.drop(p)
			if bytes.Contains(tail, []byte(text)) {
				return read, nil
			}
			tail = append(tail[:0], tail[max(0, len(tail)-len(text)):]...)
		case <-deadline:
			return read, fmt.Errorf("no %q within %v", text, terminalWait)
		}
	}
}

// watch looks at all that is printed, as a browser does, until stop is called: a
// viewer who does not would soon make the program wait.
func (s *shell) watch() (stop func()) {
	enough, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-enough:
				return
			case p, open := <-s.output:
				if !open {
					return
				}
				s.drop(p)
			}
		}
	}()
	return func() { close(enough); <-over }
}

// interrupt ends what runs in the terminal, which may outlive its viewer and would be
// measured with all that comes later.
func (s *shell) interrupt() error {
	if _, err := s.Write([]byte{'C' - '@'}); err != nil {
		return err
	}
	if _, err := s.await("^C"); err != nil {
		return err
	}
	_, err := io.WriteString(s, "echo at-$((40+2))-rest\n")
	if err == nil {
		_, err = s.await("at-42-rest")
	}
	return err
}

// echoes types and measures how long each key takes to appear.
func (s *shell) echoes(n int) (took timings, err error) {
	for i := range n {
		if i%keysOnALine == 0 {
			if _, err := s.Write([]byte{'U' - '@'}); err != nil { // the line is emptied
				return nil, err
			}
			s.quiet(50 * time.Millisecond)
		}
		time.Sleep(keyPause + rand.N(keyPause))
		key := string(rune('a' + i%26))
		began := time.Now()
		if _, err := io.WriteString(s, key); err != nil {
			return nil, err
		}
		if _, err := s.await(key); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	_, err = s.Write([]byte{'U' - '@'})
	s.quiet(50 * time.Millisecond)
	return took, err
}

// throughput prints a lot and gives MB/s from the key that starts it to the end.
func (s *shell) throughput() (float64, error) {
	began := time.Now()
	if _, err := io.WriteString(s, bulkProgram+bulkCommand[len("seq"):]+"; echo at-$((40+2))-end\n"); err != nil {
		return 0, err
	}
	n, err := s.await("at-42-end")
	if err == nil && n < bulkBytes {
		err = fmt.Errorf("%d bytes came of %d", n, bulkBytes)
	}
	return float64(n) / 1e6 / time.Since(began).Seconds(), err
}

// bulkBytes is what bulkCommand prints, with the PTY's carriage returns.
var bulkBytes = func() (n int64) {
	for digits, first := 1, int64(1); first <= 2_000_000; digits, first = digits+1, first*10 {
		n += (min(first*10, 2_000_001) - first) * int64(digits+2)
	}
	return n
}()

func bulkText() string {
	var b strings.Builder
	for n := range 2_000_000 {
		fmt.Fprintf(&b, "%d\r\n", n+1)
	}
	return b.String()
}
