package terminal

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ecolink/agent/keeper/session"
)

// Session tells of a session.
type Session struct {
	Name       string
	Viewers    int // who watch now
	Cols, Rows uint16
	Bytes      int64     // printed in all
	UsedAt     time.Time // when somebody last typed, came or left
	Foreground string    // the program that has the keyboard; empty if unknown
	Resting    bool      // the shell is at its prompt, and nothing that it started still runs
}

// List tells of a container's sessions that go on, by name. What those that ended
// long ago have left is removed.
func (s *Sessions) List(ctx context.Context, container string) ([]Session, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, container))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []Session
	for _, e := range entries {
		dir := filepath.Join(s.dir, container, e.Name())
		st, err := session.ReadStatus(ctx, dir)
		switch {
		case errors.Is(err, session.ErrEnded):
			if err := s.forgetEnded(dir, endedTime); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		default:
			all = append(all, Session{
				Name: e.Name(), Viewers: st.Viewers, Cols: st.Window.Cols, Rows: st.Window.Rows, Bytes: st.Bytes,
				UsedAt: st.UsedAt.Truncate(time.Second), Foreground: st.Foreground, Resting: st.Resting,
			})
		}
	}
	slices.SortFunc(all, func(a, b Session) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// End ends a session and all that its shell has started on its terminal, and
// forgets it; found is false when there is none.
func (s *Sessions) End(ctx context.Context, container, name string) (found bool, err error) {
	if name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." {
		return false, nil
	}
	dir := filepath.Join(s.dir, container, name)
	defer s.take(dir)()
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	_, err = session.ReadStatus(ctx, dir)
	found = !errors.Is(err, session.ErrEnded)
	return found, errors.Join(s.shells.EndProcess(ctx, container, process(name)), os.RemoveAll(dir))
}

// forgetEnded removes the folder of a session that ended some time ago.
func (s *Sessions) forgetEnded(dir string, ago time.Duration) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if time.Since(info.ModTime()) < ago {
		return nil
	}
	return os.RemoveAll(dir)
}

// sweep makes place for one more session of a container.
func (s *Sessions) sweep(ctx context.Context, container string) error {
	dir := filepath.Join(s.dir, container)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) < maxSessions {
		return nil
	}
	if err != nil {
		return err
	}
	left := 0
	for _, e := range entries {
		if _, err := session.ReadStatus(ctx, filepath.Join(dir, e.Name())); errors.Is(err, session.ErrEnded) && s.idle(filepath.Join(dir, e.Name())) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		left++
	}
	if left >= maxSessions {
		return ErrTooMany
	}
	return nil
}

// idle reports whether nobody is just starting the session.
func (s *Sessions) idle(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.turns[dir] == nil
}

// Containers names every container that has a folder.
func (s *Sessions) Containers() (names []string, err error) {
	all, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names, nil
}

// Forget removes the folders of a container that is gone.
func (s *Sessions) Forget(container string) error {
	return os.RemoveAll(filepath.Join(s.dir, container))
}
