package proxy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"sync"
	"time"

	"ecolink/ledger/identity"
)

// Limits of the hand-over from the console to an instance's host.
const (
	ticketTime = time.Minute
	maxTickets = 10_000
)

// tickets take members from the console to an instance's host, once each. They
// live in memory: who holds one when the process ends is sent for another.
type tickets struct {
	mu  sync.Mutex
	all map[string]ticket
}

type ticket struct {
	session identity.SessionID
	target  target
	until   time.Time
}

func newTickets() *tickets { return &tickets{all: map[string]ticket{}} }

// issue makes a ticket. Of too many that nobody redeems, the stale ones go first,
// and then any.
func (s *tickets) issue(session identity.SessionID, t target, now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxTickets {
		for text, old := range s.all {
			if !now.Before(old.until) {
				delete(s.all, text)
			}
		}
		for text := range s.all {
			if len(s.all) < maxTickets {
				break
			}
			delete(s.all, text)
		}
	}
	text := rand.Text()
	s.all[text] = ticket{session, t, now.Add(ticketTime)}
	return text
}

// redeem takes a ticket, which is good for nothing afterwards.
func (s *tickets) redeem(text string, t target, now time.Time) (identity.SessionID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.all[text]
	delete(s.all, text)
	return found.session, ok && found.target == t && now.Before(found.until)
}

// passes are signed: "7.…", the session's number and what only the holder of the
// key can have written about it and the target.
type passes struct{ key []byte }

func (p passes) write(session identity.SessionID, t target) string {
	n := strconv.FormatInt(int64(session), 10)
	return n + "." + p.sign(n, t)
}

func (p passes) sign(session string, t target) string {
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte("ecolink pass v1\x00" + t.String() + "\x00" + session))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// read gives the session that a pass is of. Whether that still exists is another
// question.
func (p passes) read(text string, t target) (identity.SessionID, bool) {
	n, mac, _ := strings.Cut(text, ".")
	if !hmac.Equal([]byte(mac), []byte(p.sign(n, t))) {
		return 0, false
	}
	id, err := strconv.ParseInt(n, 10, 64)
	return identity.SessionID(id), err == nil
}
