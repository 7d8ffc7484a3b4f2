package identity

import (
	"errors"
	"testing"
	"time"

	"ecolink/ledger/store"
)

func TestSessionIsFoundAndTouchedByNumberUntilItEnds(t *testing.T) {
	st := newStore(t)
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	var s Session
	var token string
	update := func(f func(tx *store.Tx) error) {
		t.Helper()
		if err := st.Update(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *store.Tx) error {
		u, err := CreateUser(tx, NewUser{Email: "ana@example.org"}, now)
		if err != nil {
			return err
		}
		s, token, err = CreateSession(tx, u.ID, "192.0.2.1", now)
		return err
	})
	found := func(at time.Time) (got Session, err error) {
		err = st.View(func(tx *store.Tx) (err error) { got, err = SessionByID(tx, s.ID, at); return err })
		return got, err
	}
	if got, err := found(now); err != nil || got.User != s.User || got.CSRFToken() != "" {
		t.Errorf("found %+v, %v", got, err)
	}
	later := now.Add(SessionIdle - time.Second)
	update(func(tx *store.Tx) error { return TouchSessionByID(tx, s.ID, later) })
	if _, err := found(now.Add(SessionIdle)); err != nil {
		t.Errorf("seen, it still expired: %v", err)
	}
	if _, err := found(now.Add(SessionAbsolute)); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("it outlives its longest time: %v", err)
	}
	err := st.Update(t.Context(), func(tx *store.Tx) error { return TouchSessionByID(tx, s.ID, later.Add(SessionIdle)) })
	if !errors.Is(err, ErrUnauthorized) {
		t.Errorf("an expired one was touched: %v", err)
	}
	update(func(tx *store.Tx) error { return DeleteSession(tx, token) })
	if _, err := found(now); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("signed out, it is found: %v", err)
	}
}
