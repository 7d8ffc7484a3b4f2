package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"time"

	"ecolink/ledger/store"
)

// SessionID names a browser session; it is not the secret.
type SessionID int64

// Session is a browser that is signed in, without its token.
type Session struct {
	ID       SessionID `json:"id"`
	User     UserID    `json:"user"`
	From     string    `json:"from,omitempty"` // the address that signed in
	Created  time.Time `json:"created"`
	LastSeen time.Time `json:"last_seen"` // to the hour

	csrf string
}

// Expires is when the session ends if it is not seen again.
func (s Session) Expires() time.Time {
	idle, absolute := s.LastSeen.Add(SessionIdle), s.Created.Add(SessionAbsolute)
	if idle.Before(absolute) {
		return idle
	}
	return absolute
}

// CSRFToken goes into each form of the session. It is derived from the session's
// token, so that nobody without the cookie can make it, and it can't be turned
// back into the cookie.
func (s Session) CSRFToken() string { return s.csrf }

// CheckCSRF tells whether a form came from one of the session's pages.
func (s Session) CheckCSRF(got string) error {
	if s.csrf != "" && subtle.ConstantTimeCompare([]byte(got), []byte(s.csrf)) == 1 {
		return nil
	}
	return fail(ErrForbidden, "this form is not from your present session: reload the page and send it again")
}

// TouchDue tells whether TouchSession would write anything.
func (s Session) TouchDue(now time.Time) bool { return now.Sub(s.LastSeen) >= sessionTouchEvery }

type sessionRecord struct {
	Session
	Digest string `json:"digest"`
}

// Every session is in all three collections, or in none.
var (
	sessions       = store.NewIntCollection[SessionID, sessionRecord]("identity.sessions")
	sessionDigests = store.NewStringCollection[string, SessionID]("identity.session-digests")
	sessionsByUser = store.NewPairCollection[struct{}]("identity.sessions-by-user")
)

// CreateSession signs a user in. The token is returned this once, for the cookie.
// The user's expired sessions go, and past maxSessionsPerUser the least recently seen.
func CreateSession(tx *store.Tx, user UserID, from string, now time.Time) (s Session, token string, err error) {
	if _, err := UserByID(tx, user); err != nil {
		return Session{}, "", err
	}
	if err := pruneSessions(tx, user, now); err != nil {
		return Session{}, "", err
	}
	id, err := tx.NextID(sessions.Name())
	if err != nil {
		return Session{}, "", err
	}
	token = newToken()
	r := sessionRecord{
		Session: Session{
			ID: SessionID(id), User: user, From: cut(from, maxAuditWordBytes),
			Created: instant(now), LastSeen: instant(now), csrf: csrfOf(token),
		},
		Digest: digest(token),
	}
	if err := sessions.Put(tx, r.ID, r); err != nil {
		return Session{}, "", err
	}
	if err := sessionDigests.Put(tx, r.Digest, r.ID); err != nil {
		return Session{}, "", err
	}
	return r.Session, token, sessionsByUser.Put(tx, store.Pair{A: int64(user), B: id}, struct{}{})
}

// FindSession is the session that a cookie's token belongs to, unless it has expired.
func FindSession(tx *store.Tx, token string, now time.Time) (Session, error) {
	r, ok, err := readSession(tx, token)
	if err != nil {
		return Session{}, err
	}
	if !ok || !now.Before(r.Expires()) {
		return Session{}, fail(ErrUnauthorized, "you are not signed in, or were signed out: sign in again")
	}
	r.csrf = csrfOf(token)
	return r.Session, nil
}

// TouchSession notes that a session was seen, at most once an hour, which puts
// off its idle expiry. An expired one is ErrUnauthorized and stays so.
func TouchSession(tx *store.Tx, token string, now time.Time) error {
	if _, err := FindSession(tx, token, now); err != nil {
		return err
	}
	r, _, err := readSession(tx, token)
	if err != nil || !r.TouchDue(now) {
		return err
	}
	r.LastSeen = instant(now)
	return sessions.Put(tx, r.ID, r)
}

// DeleteSession signs a browser out. A token that means nothing is no error.
func DeleteSession(tx *store.Tx, token string) error {
	r, ok, err := readSession(tx, token)
	if err != nil || !ok {
		return err
	}
	return deleteSession(tx, r)
}

// DeleteAllSessions signs a user out everywhere.
func DeleteAllSessions(tx *store.Tx, user UserID) error {
	all, err := sessionsOf(tx, user)
	if err != nil {
		return err
	}
	for _, r := range all {
		if err := deleteSession(tx, r); err != nil {
			return err
		}
	}
	return nil
}

// pruneSessions makes room for one more session.
func pruneSessions(tx *store.Tx, user UserID, now time.Time) error {
	all, err := sessionsOf(tx, user)
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b sessionRecord) int { return a.LastSeen.Compare(b.LastSeen) })
	excess := len(all) - (maxSessionsPerUser - 1)
	for i, r := range all {
		if i >= excess && now.Before(r.Expires()) {
			continue
		}
		if err := deleteSession(tx, r); err != nil {
			return err
		}
	}
	return nil
}

func sessionsOf(tx *store.Tx, user UserID) ([]sessionRecord, error) {
	list, err := ids[SessionID](sessionsByUser, tx, int64(user))
	if err != nil {
		return nil, err
	}
	var out []sessionRecord
	for _, id := range list {
		r, ok, err := sessions.Get(tx, id)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, r)
		}
	}
	return out, nil
}

func readSession(tx *store.Tx, token string) (sessionRecord, bool, error) {
	if !looksLikeToken(token) {
		return sessionRecord{}, false, nil
	}
	id, ok, err := sessionDigests.Get(tx, digest(token))
	if err != nil || !ok {
		return sessionRecord{}, false, err
	}
	return sessions.Get(tx, id)
}

func deleteSession(tx *store.Tx, r sessionRecord) error {
	if err := sessionDigests.Delete(tx, r.Digest); err != nil {
		return err
	}
	if err := sessionsByUser.Delete(tx, store.Pair{A: int64(r.User), B: int64(r.ID)}); err != nil {
		return err
	}
	return sessions.Delete(tx, r.ID)
}

func csrfOf(token string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("ecolink csrf v1"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
