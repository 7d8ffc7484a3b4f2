package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
)

// Terminals opens terminals; the scheduler does.
type Terminals interface {
	Terminal(ctx context.Context, a identity.AccountID, id scheduler.InstanceID, session string, from int64, cols, rows uint16) (agent.Terminal, error)
	Sessions(ctx context.Context, a identity.AccountID, id scheduler.InstanceID) ([]agent.TerminalSession, error)
	EndSession(ctx context.Context, a identity.AccountID, id scheduler.InstanceID, session string) (found bool, err error)
	SessionExit(ctx context.Context, a identity.AccountID, id scheduler.InstanceID, session string) (code int, known bool)
}

// sessionPrefix begins the names of the sessions that SSH opens.
const sessionPrefix = "ssh-"

// sessions knows which terminal sessions are looked at over SSH, by instance and
// name, so that two log-ins never share one by accident.
type sessions struct {
	mu      sync.Mutex
	watched map[string]int
}

func (s *sessions) key(id scheduler.InstanceID, name string) string {
	return fmt.Sprintf("%d/%s", id, name)
}

// join counts a viewer of a session.
func (s *sessions) join(id scheduler.InstanceID, name string) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watch(s.key(id, name))
}

func (s *sessions) watch(key string) (leave func()) {
	s.watched[key]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.watched[key]--; s.watched[key] == 0 {
			delete(s.watched, key)
		}
	}
}

// reserve names a session that is not there yet, and those that lost their
// connection and still run.
func (s *sessions) reserve(id scheduler.InstanceID, live []agent.TerminalSession) (name string, lost []string, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := map[string]bool{}
	for _, other := range live {
		taken[other.Name] = true
		if strings.HasPrefix(other.Name, sessionPrefix) && other.Viewers == 0 && s.watched[s.key(id, other.Name)] == 0 {
			lost = append(lost, other.Name)
		}
	}
	for n := 1; ; n++ {
		name = fmt.Sprintf("%s%d", sessionPrefix, n)
		key := s.key(id, name)
		if s.watched[key] == 0 && !taken[name] {
			return name, lost, s.watch(key)
		}
	}
}

// shell is the job of a shell: with a PTY a terminal session, new or the one that
// the user name names; without, one that reads its commands.
func (s *session) shell(ctx context.Context) (code int, err error) {
	if s.refusal != nil {
		return 0, s.refusal
	}
	if s.pty == nil {
		return s.run(ctx, agent.Program{}, nil)
	}
	if name := s.login.Session; name != "" {
		defer s.server.sessions.join(s.entry.Instance, name)()
		s.tellIfNew(ctx, name)
		return s.show(ctx, name)
	}
	live, err := s.server.inside.Sessions(ctx, s.entry.Account, s.entry.Instance)
	if err != nil {
		return 0, s.because(ctx, err)
	}
	name, lost, leave := s.server.sessions.reserve(s.entry.Instance, live)
	defer leave()
	for _, other := range lost[:min(len(lost), maxHints)] {
		s.tell(fmt.Sprintf("a shell that lost its connection still runs: log in as %s+%s to go on in it", s.entry.Name, other))
	}
	code, err = s.show(ctx, name)
	if errors.Is(err, errLeft) && s.onPurpose() {
		s.endIfResting(name)
	}
	return code, err
}

// tellIfNew tells who names a shell that is gone. Nobody makes up a name like ours:
// they want the shell that had it.
func (s *session) tellIfNew(ctx context.Context, name string) {
	if !strings.HasPrefix(name, sessionPrefix) {
		return
	}
	live, err := s.server.inside.Sessions(ctx, s.entry.Account, s.entry.Instance)
	if err == nil && !slices.ContainsFunc(live, func(other agent.TerminalSession) bool { return other.Name == name }) {
		s.tell(fmt.Sprintf("no shell %s runs in %s any more: this is a new one", name, s.entry.Name))
	}
}

// endIfResting ends a shell whose client has gone, rather than let those of closed
// windows pile up: one that is at its prompt, has started nothing that still runs,
// and that nobody else looks at. A job is never ended.
func (s *session) endIfResting(name string) {
	ctx, cancel := context.WithTimeout(s.server.ctx, resizeTime)
	defer cancel()
	// Until the session knows that its viewer has gone, and a shell that has just
	// answered is at its prompt again.
	for began := time.Now(); ctx.Err() == nil; time.Sleep(restCheck) {
		all, err := s.server.inside.Sessions(ctx, s.entry.Account, s.entry.Instance)
		if err != nil {
			return // it goes on, as any that nobody ends
		}
		n := slices.IndexFunc(all, func(other agent.TerminalSession) bool { return other.Name == name })
		switch {
		case n < 0:
			return
		case all[n].Resting && all[n].Viewers == 0:
			if _, err := s.server.inside.EndSession(ctx, s.entry.Account, s.entry.Instance, name); err != nil {
				s.server.log.Warn("SSH: a shell that was left could not be ended", "instance", s.entry.Instance, "session", name, "err", err)
			}
			return
		case !all[n].Resting && time.Since(began) > restTime:
			return // it has a job
		}
	}
}

// restTime is how long a shell whose client has gone may take to come to its prompt,
// and restCheck how often that is looked at.
const (
	restTime  = time.Second
	restCheck = 100 * time.Millisecond
)

// maxHints is how many lost shells a new one tells of.
const maxHints = 3

// show shows a terminal session until it has ended, and gives its shell's exit code.
func (s *session) show(ctx context.Context, name string) (code int, err error) {
	t, err := s.attach(ctx, name, -1, *s.pty)
	if err != nil {
		return 0, s.because(ctx, err)
	}
	v := &viewer{session: s, changed: make(chan struct{}), term: t}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(inner, v.leave)
	s.typing.Go(func() { v.typeIn(inner) })
	var sizes sync.WaitGroup
	defer sizes.Wait()
	defer stop()
	sizes.Go(func() { v.resize(inner) })

	if _, err := s.channel.Write(t.Prologue()); err != nil {
		return 0, errLeft
	}
	offset := t.Start()
	buf := make([]byte, outputBytes)
	for {
		n, err := t.Read(buf)
		offset += int64(n)
		if n > 0 {
			if _, err := s.channel.Write(buf[:n]); err != nil {
				return 0, errLeft
			}
		}
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case errors.Is(err, agent.ErrTerminalEnded):
			return s.exitCode(ctx, name), s.stillRuns()
		case !errors.Is(err, io.EOF):
			return 0, s.because(ctx, err)
		}
		// The client was too slow for the session, which went on.
		_ = t.Close()
		if t, err = s.attach(ctx, name, offset, window{}); errors.Is(err, agent.ErrTerminalEnded) {
			return s.exitCode(ctx, name), s.stillRuns()
		}
		if err != nil {
			return 0, s.because(ctx, err)
		}
		if _, err := s.channel.Write(t.Prologue()); err != nil {
			return 0, errLeft
		}
		offset = t.Start()
		v.replace(t)
		if inner.Err() != nil { // and leave has been
			_ = t.Leave()
		}
	}
}

func (s *session) attach(ctx context.Context, name string, from int64, w window) (agent.Terminal, error) {
	return s.server.inside.Terminal(ctx, s.entry.Account, s.entry.Instance, name, from, w.cols, w.rows)
}

// exitCode is that of a shell which has just ended; containerd learns it a moment
// after the terminal does.
func (s *session) exitCode(ctx context.Context, name string) int {
	limit, cancel := context.WithTimeout(ctx, exitPatience)
	defer cancel()
	for {
		if code, known := s.server.inside.SessionExit(limit, s.entry.Account, s.entry.Instance, name); known {
			return code
		}
		select {
		case <-limit.Done():
			return 0
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// viewer is the terminal that a session shows now.
type viewer struct {
	*session

	mu      sync.Mutex
	term    agent.Terminal
	changed chan struct{} // closed when there is another one
}

func (v *viewer) now() (agent.Terminal, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.term, v.changed
}

func (v *viewer) replace(t agent.Terminal) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.term = t
	close(v.changed)
	v.changed = make(chan struct{})
}

// leave holds nobody up by what this viewer has not seen.
func (v *viewer) leave() {
	t, _ := v.now()
	_ = t.Leave()
}

// typeIn types what the client sends until the channel ends. What is typed after
// the shell's end goes nowhere.
func (v *viewer) typeIn(ctx context.Context) {
	buf := make([]byte, outputBytes)
	for {
		n, err := v.channel.Read(buf)
		for p := buf[:n]; len(p) > 0 && ctx.Err() == nil; {
			t, changed := v.now()
			written, err := t.Write(p)
			p = p[written:]
			if err == nil {
				continue
			}
			select { // it hung up, and may be attached to again
			case <-changed:
			case <-ctx.Done():
			}
		}
		if err != nil {
			return
		}
	}
}

// resize passes on the sizes of the client's window.
func (v *viewer) resize(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.signals: // a terminal has keys for that
		case w := <-v.windows:
			limit, cancel := context.WithTimeout(ctx, resizeTime)
			t, _ := v.now()
			_ = t.Resize(limit, w.cols, w.rows) // the next change tries again
			cancel()
		}
	}
}
