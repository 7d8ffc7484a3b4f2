package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// screen gathers what a terminal prints and shows it as it comes.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
	seen int // how much of it has been waited for
	over chan struct{}
}

func newScreen(r io.Reader) *screen {
	s := &screen{over: make(chan struct{})}
	go func() {
		defer close(s.over)
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// await waits until something new contains the text, and prints what came.
func (s *screen) await(ctx context.Context, text string) error {
	for {
		s.mu.Lock()
		all := s.text.String()
		at := strings.Index(all[s.seen:], text)
		if at >= 0 {
			end := s.seen + at + len(text)
			fmt.Print(printable(all[s.seen:end]))
			s.seen = end
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return fmt.Errorf("%q did not appear in the terminal; it shows:\n%s", text, printable(all))
		case <-s.over:
			return fmt.Errorf("the terminal ended before it showed %q; it shows:\n%s", text, printable(all))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// rest is what came since, to the terminal's end.
func (s *screen) rest() string {
	<-s.over
	s.mu.Lock()
	defer s.mu.Unlock()
	return printable(s.text.String()[s.seen:])
}

// printable leaves out control sequences, such as the question where the cursor is.
func printable(s string) string {
	var out strings.Builder
	for len(s) > 0 {
		if rest, ok := strings.CutPrefix(s, "\x1b["); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' && r <= '~' })
			if end < 0 {
				break
			}
			s = rest[end+1:]
			continue
		}
		if s[0] == '\x1b' { // a short sequence, such as the one that resets the keypad
			s = s[min(2, len(s)):]
			continue
		}
		if s[0] == '\n' || s[0] >= ' ' {
			out.WriteByte(s[0])
		}
		s = s[1:]
	}
	return out.String()
}
