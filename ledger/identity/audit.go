package identity

import (
	"fmt"
	"math"
	"strings"
	"time"

	"ecolink/ledger/store"
)

// EventID orders the audit log.
type EventID int64

// Actor is who did something.
type Actor string

// System is EcoLink itself.
const System Actor = "system"

// UserActor is a person, signed in.
func UserActor(id UserID) Actor { return Actor(fmt.Sprintf("user:%d", id)) }

// KeyActor is whoever holds an API key.
func KeyActor(id KeyID) Actor { return Actor(fmt.Sprintf("key:%d", id)) }

// Event says who did what to which resource, from where.
type Event struct {
	ID       EventID   `json:"id"` // set by Record
	At       time.Time `json:"at"`
	Actor    Actor     `json:"actor"`
	Action   string    `json:"action"`             // noun.verb: key.revoke
	Resource string    `json:"resource,omitempty"` // noun:id: key:7
	Account  AccountID `json:"account,omitempty"`  // 0: about the box, for operators only
	From     string    `json:"from,omitempty"`     // the address it came from
	Detail   string    `json:"detail,omitempty"`   // for people; never a secret
}

// There is no function that changes or removes an event.
var (
	events          = store.NewIntCollection[EventID, Event]("identity.audit")
	eventsByAccount = store.NewPairCollection[struct{}]("identity.audit-by-account")
)

// Record appends an event, in the transaction of what it tells of. Texts that are
// too long are cut: a log must not undo a deed.
func Record(tx *store.Tx, e Event) error {
	switch {
	case e.At.IsZero():
		return failField(ErrInvalid, "at", "the audit event has no time: set At")
	case e.Actor == "":
		return failField(ErrInvalid, "actor", "the audit event has no actor: set Actor")
	case e.Action == "":
		return failField(ErrInvalid, "action", "the audit event has no action: set Action")
	}
	id, err := tx.NextID(events.Name())
	if err != nil {
		return err
	}
	e.ID = EventID(id)
	e.At = instant(e.At)
	e.Actor = Actor(cut(string(e.Actor), maxAuditWordBytes))
	e.Action = cut(e.Action, maxAuditWordBytes)
	e.Resource = cut(e.Resource, maxAuditWordBytes)
	e.From = cut(e.From, maxAuditWordBytes)
	e.Detail = cut(e.Detail, maxAuditDetailBytes)
	if err := events.Put(tx, e.ID, e); err != nil {
		return err
	}
	if e.Account == 0 {
		return nil
	}
	return eventsByAccount.Put(tx, store.Pair{A: int64(e.Account), B: id}, struct{}{})
}

// ListAudit lists up to limit of an account's events, newest first: those before
// the given one, or the newest if it is 0.
func ListAudit(tx *store.Tx, account AccountID, limit int, before EventID) ([]Event, error) {
	limit = pageSize(limit)
	from := store.Pair{A: int64(account), B: newestBefore(before)}
	var out []Event
	for row, err := range eventsByAccount.ScanDown(tx, from, store.First(int64(account))) {
		if err != nil {
			return nil, err
		}
		e, ok, err := events.Get(tx, EventID(row.Key.B))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("audit event %d is in the index of account %d and not in the log", row.Key.B, account)
		}
		if out = append(out, e); len(out) == limit {
			break
		}
	}
	return out, nil
}

// ListAllAudit is ListAudit of the whole box, for operators.
func ListAllAudit(tx *store.Tx, limit int, before EventID) ([]Event, error) {
	return page(events.ScanDown(tx, EventID(newestBefore(before)), 0), limit)
}

func newestBefore(before EventID) int64 {
	if before <= 0 {
		return math.MaxInt64
	}
	return int64(before) - 1
}

// cut shortens s to n bytes of valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
