package identity

import (
	"time"

	"ecolink/ledger/store"
)

// SessionByID is a session by its number, unless it has expired. The number is no
// secret: whoever asks has proven otherwise that it acts for the session, and
// learns here whether that still is one.
func SessionByID(tx *store.Tx, id SessionID, now time.Time) (Session, error) {
	r, ok, err := sessions.Get(tx, id)
	if err != nil {
		return Session{}, err
	}
	if !ok || !now.Before(r.Expires()) {
		return Session{}, fail(ErrUnauthorized, "you are not signed in, or were signed out: sign in again")
	}
	return r.Session, nil
}

// TouchSessionByID is TouchSession for who knows the session's number.
func TouchSessionByID(tx *store.Tx, id SessionID, now time.Time) error {
	if _, err := SessionByID(tx, id, now); err != nil {
		return err
	}
	r, _, err := sessions.Get(tx, id)
	if err != nil || !r.TouchDue(now) {
		return err
	}
	r.LastSeen = instant(now)
	return sessions.Put(tx, id, r)
}
