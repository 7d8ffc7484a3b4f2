package lease

import (
	"fmt"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Audited is what lies in leases.
type Audited struct {
	Leases int             `json:"leases"`
	Held   ledger.MicroUSD `json:"held"` // in them, a part of what the accounts have held
	// Records and Pending are what the log has and the journal has not: they will be
	// charged out of Held, or beyond it as far as the balances go.
	Records int             `json:"records"`
	Pending ledger.MicroUSD `json:"pending"`
	// Unbilled is what was used so far beyond all the money that accounts had.
	Unbilled ledger.MicroUSD `json:"unbilled"`
}

// Audit accounts for the money in leases, to the micro-dollar, also after a crash
// and before Open. dir is the log's folder; "" leaves the log out, as it must be
// left while a Spender is open. A *ledger.Disagreement says that leases and holds
// do not agree; a *DamagedError, that the log can't be read.
func Audit(tx *store.Tx, dir string) (out Audited, err error) {
	for rec, err := range grants.All(tx) {
		if err != nil {
			return out, err
		}
		h, err := ledger.GetHold(tx, rec.Value.Hold)
		if err != nil {
			return out, err
		}
		if h.Account != rec.Key || h.Resource != resourceOf(rec.Key) {
			return out, &ledger.Disagreement{What: fmt.Sprintf("the API lease of account %d is in hold %d, which is account %d's for %s", rec.Key, h.ID, h.Account, h.Resource)}
		}
		held, err := heldFor(tx, rec.Key)
		if err != nil {
			return out, err
		}
		if held != h.Rest() {
			return out, &ledger.Disagreement{What: fmt.Sprintf("account %d has $%s held for API requests, and a lease of $%s", rec.Key, held, h.Rest())}
		}
		out.Leases++
		out.Held += held
	}
	for rec, err := range unbilled.All(tx) {
		if err != nil {
			return out, err
		}
		out.Unbilled += rec.Value.Amount
	}
	if dir == "" {
		return out, nil
	}
	return out, out.readLog(tx, dir)
}

// heldFor is what the account's open holds for API requests have.
func heldFor(tx *store.Tx, a identity.AccountID) (sum ledger.MicroUSD, err error) {
	open, err := ledger.OpenHolds(tx, a)
	for _, h := range open {
		if h.Resource == resourceOf(a) {
			sum += h.Rest()
		}
	}
	return sum, err
}

// readLog adds what the log has and the journal has not.
func (out *Audited) readLog(tx *store.Tx, dir string) error {
	state, _, err := states.Get(tx, stateKey)
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	paths, err := segmentPaths(dir)
	if err != nil {
		return err
	}
	ours := segmentsOf(paths, state.Epoch)
	for n, path := range ours {
		s, err := readSegment(path, modeOf(n, len(ours), state.Boot == boot))
		if err != nil {
			return err
		}
		for _, r := range s.records {
			if r.number > state.Folded {
				out.Records++
				out.Pending += r.entry.Amount
			}
		}
	}
	return nil
}
