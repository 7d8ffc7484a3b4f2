package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Status tells of a terminal.
type Status struct {
	Viewers    int       `json:"viewers"`
	Window     Window    `json:"window"`
	Bytes      int64     `json:"bytes"`   // ever printed
	UsedAt     time.Time `json:"used_at"` // when anybody last typed, came or left
	Foreground string    `json:"foreground"`
	Resting    bool      `json:"resting"` // the shell is at its prompt, and nothing that it started still runs
}

func (h *host) status() Status {
	h.mu.Lock()
	s := Status{Window: h.window.is, UsedAt: h.lastUse.UTC()}
	for c := range h.clients {
		if c.place != nil {
			s.Viewers++
		}
	}
	h.mu.Unlock()
	s.Bytes = h.ring.total()
	select {
	case <-h.adopted:
		_, s.Foreground = h.pty.foreground()
		s.Resting = h.pty.resting()
	default:
	}
	return s
}

// watchIdle ends a shell that everybody has forgotten: one without a viewer, at
// its prompt, that has started nothing that still runs. A job is never ended.
func (h *host) watchIdle() {
	limit := time.Duration(h.config.IdleSeconds) * time.Second
	if limit == 0 {
		return
	}
	tick := time.NewTicker(min(idleCheck, limit))
	defer tick.Stop()
	printed, since := int64(-1), time.Now()
	for {
		select {
		case <-h.ended:
			return
		case <-tick.C:
		}
		s := h.status()
		if s.Viewers > 0 || s.Bytes != printed || !h.pty.resting() {
			printed, since = s.Bytes, time.Now()
			continue
		}
		if time.Since(since) >= limit {
			_ = unix.PidfdSendSignal(h.pty.pidfd, unix.SIGHUP, nil, 0) // it may have ended just now
		}
	}
}

// Adopt tells the host of dir which process its shell is, and returns when the
// shell has begun, in a window of this size. It is called once, by who started the
// shell.
func Adopt(ctx context.Context, dir string, pid int, w Window) error {
	conn, err := connect(ctx, dir)
	if err != nil {
		return fmt.Errorf("hand a shell to its host: %w", err)
	}
	defer conn.Close()
	defer bound(ctx, conn)()
	if _, err = fmt.Fprintf(conn, "ADOPT %d %d %d\n", pid, w.Cols, w.Rows); err == nil {
		_, _, err = readAnswer(conn)
	}
	if err != nil {
		if _, reason, ended := Ended(dir); ended && reason != "" {
			err = errors.New(reason)
		}
		return fmt.Errorf("hand a shell to its host: %w", err)
	}
	return nil
}

// ReadStatus asks the host of dir; the errors are Dial's.
func ReadStatus(ctx context.Context, dir string) (s Status, err error) {
	conn, err := connect(ctx, dir)
	if err != nil {
		return s, fmt.Errorf("ask a terminal's host: %w", err)
	}
	defer conn.Close()
	defer bound(ctx, conn)()
	if _, err := fmt.Fprint(conn, "STATUS\n"); err != nil {
		return s, fmt.Errorf("ask a terminal's host: %w", err)
	}
	answer, _, err := readAnswer(conn)
	if err == nil {
		err = json.Unmarshal([]byte(answer), &s)
	}
	if err != nil {
		return s, fmt.Errorf("ask a terminal's host: %w", err)
	}
	return s, nil
}
