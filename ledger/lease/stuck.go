package lease

import (
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// StuckCharge is a charge that can't be made: the account's lease is not in the
// database, or can't be read. Others do not wait for it. Nobody was charged; the
// operator looks into it, charges it by a correction or not, and then forgets it.
type StuckCharge struct {
	Number int64 // in the log
	At     time.Time
	Why    string
	Lease  int64 // of the account, that it was reserved in
	Entry  ledger.Entry
}

// StuckTotal counts the charges that could not be made.
type StuckTotal struct {
	Kept    int             `json:"kept"`    // are there to be looked at, no more than maxStuck
	Records int64           `json:"records"` // ever, those that there was no room for included
	Amount  ledger.MicroUSD `json:"amount"`  // what they cost
}

// stuckRecord is one as it is kept.
type stuckRecord struct {
	At   time.Time `json:"at"`
	Why  string    `json:"why"`
	Body []byte    `json:"body"` // the log record's
}

// StuckCharges lists the charges that could not be made and were not forgotten.
func StuckCharges(tx *store.Tx) (out []StuckCharge, total StuckTotal, err error) {
	state, _, err := states.Get(tx, stateKey)
	if err != nil {
		return nil, total, err
	}
	for rec, err := range stuck.All(tx) {
		if err != nil {
			return nil, total, err
		}
		r, err := decodeBody(rec.Value.Body)
		if err != nil {
			return nil, total, err
		}
		out = append(out, StuckCharge{Number: rec.Key, At: rec.Value.At, Why: rec.Value.Why, Lease: r.lease, Entry: r.entry})
	}
	return out, state.Stuck, nil
}

// ForgetStuck removes a charge that the operator has dealt with.
func ForgetStuck(tx *store.Tx, number int64) error {
	state, _, err := states.Get(tx, stateKey)
	if err != nil {
		return err
	}
	if _, ok, err := stuck.Get(tx, number); err != nil || !ok {
		return err
	}
	state.Stuck.Kept--
	if err := states.Put(tx, stateKey, state); err != nil {
		return err
	}
	return stuck.Delete(tx, number)
}

// stick keeps a record that can't be charged.
func (f *folding) stick(tx *store.Tx, state *logState, r *record, why string, now time.Time) error {
	f.stuck++
	f.stuckAmount += r.entry.Amount
	f.why = why
	state.Stuck.Records++
	state.Stuck.Amount += r.entry.Amount
	if state.Stuck.Kept >= maxStuck {
		return nil
	}
	state.Stuck.Kept++
	return stuck.Put(tx, r.number, stuckRecord{At: now.UTC(), Why: why, Body: appendBody(nil, r)})
}
