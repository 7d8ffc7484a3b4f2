package ledger

import (
	"context"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Checkpoint says up to where the books have been verified, and what they made
// there: a later verification goes on from it.
type Checkpoint struct {
	Row    int64     `json:"row"`
	Hash   []byte    `json:"hash"`
	Totals []Balance `json:"totals"`
	At     time.Time `json:"at"`     // when it was verified
	FullAt time.Time `json:"fullAt"` // when all of the books were last verified
}

var checkpoints = store.NewStringCollection[string, Checkpoint]("ledger.checkpoint")

const checkpointKey = "newest"

// VerifySince verifies the rows since the checkpoint, and the wallets and holds
// that they changed: enough to know after a crash that the last commits are whole.
// What nobody has touched since then is looked at by Verify alone. Without a
// checkpoint it is Verify.
func VerifySince(tx *store.Tx) (Report, error) {
	cp, ok, err := checkpoints.Get(tx, checkpointKey)
	if err != nil {
		return Report{}, unreadable(0, err)
	}
	if !ok {
		return Verify(tx)
	}
	a := auditor{last: cp.Row, wallets: map[identity.AccountID]wallet{}, holds: map[HoldID]heldMoney{}, partial: true}
	a.report.From = cp.Row + 1
	copy(a.hash[:], cp.Hash)
	copy(a.totals[:], cp.Totals)
	return a.audit(context.Background(), tx)
}

// SetCheckpoint records that the books were found to agree, by Verify or
// VerifySince, in r. Rows that came since are not covered by it.
func SetCheckpoint(tx *store.Tx, r Report, now time.Time) error {
	was, ok, err := checkpoints.Get(tx, checkpointKey)
	if err != nil || ok && was.Row > r.Rows {
		return err
	}
	cp := Checkpoint{Row: r.Rows, Hash: r.LastHash[:], Totals: r.totals[:], At: now.UTC(), FullAt: was.FullAt}
	if r.From == 1 {
		cp.FullAt = now.UTC()
	}
	return checkpoints.Put(tx, checkpointKey, cp)
}

// Verified reads the newest checkpoint.
func Verified(tx *store.Tx) (Checkpoint, bool, error) { return checkpoints.Get(tx, checkpointKey) }
