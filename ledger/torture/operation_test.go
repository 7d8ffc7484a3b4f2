package torture

import (
	"fmt"
	"slices"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// What a worker does: each operation says beforehand which rows it will make.

func (w *worker) amount() ledger.MicroUSD { return ledger.MicroUSD(1 + w.rng.IntN(5000)) }

func (w *worker) account() identity.AccountID {
	if w.rng.IntN(3) == 0 {
		return 1 // busier than the others
	}
	return identity.AccountID(1 + w.rng.IntN(numAccounts))
}

// key is mostly one that rises with time.
func (w *worker) key() string {
	if w.rng.IntN(8) == 0 {
		return fmt.Sprintf("%016x", w.rng.Uint64())
	}
	return fmt.Sprintf("%016x-%s-%d", time.Now().UnixNano(), w.name, w.n)
}

func (w *worker) step() error {
	if len(w.holds) > 4 {
		return w.endHold()
	}
	switch n := w.rng.IntN(100); {
	case n < 12:
		r := want{Type: ledger.TopUp, Account: w.account(), Amount: w.amount(), Key: w.key()}
		return w.do([]want{r}, nil, func(tx *store.Tx, op string) ([]int64, *ledger.Hold, error) {
			t, err := ledger.Credit(tx, r.entry(op))
			return []int64{t.Seq}, nil, err
		})
	case n < 45:
		return w.charge(1, nil)
	case n < 55:
		return w.charge(2+w.rng.IntN(12), nil)
	case n < 58:
		return w.charge(1+w.rng.IntN(3), errOnPurpose)
	case n < 70 || len(w.holds) == 0:
		return w.placeHold()
	case n < 80:
		return w.extendHold()
	case n < 90:
		return w.chargeHold()
	default:
		return w.endHold()
	}
}

// charge makes several charges in one update, with their keys. With an error, it
// fails after it has made them.
func (w *worker) charge(times int, err error) error {
	rows := make([]want, times)
	for n := range rows {
		rows[n] = want{Type: ledger.InferenceUsage, Account: w.account(), Amount: w.amount(), Key: w.key() + fmt.Sprint("-", n)}
	}
	return w.do(rows, nil, func(tx *store.Tx, op string) (seqs []int64, _ *ledger.Hold, _ error) {
		for _, r := range rows {
			t, err := ledger.Charge(tx, r.Type, r.entry(op))
			if err != nil {
				return nil, nil, err
			}
			seqs = append(seqs, t.Seq)
		}
		return seqs, nil, err
	})
}

func (w *worker) placeHold() error {
	r := want{Type: ledger.HoldPlaced, Account: w.account(), Amount: 10_000 + w.amount(), Key: w.key()}
	var placed ledger.Hold
	err := w.do([]want{r}, &holdState{Account: r.Account, Amount: r.Amount, Open: true}, func(tx *store.Tx, op string) (_ []int64, _ *ledger.Hold, err error) {
		placed, err = ledger.PlaceHold(tx, r.entry(op), ledger.HoldTerms{Overage: 1000})
		return nil, &placed, err
	})
	if err == nil {
		w.holds = append(w.holds, placed)
	}
	return err
}

// onHold does something to a hold of the worker's, and keeps what became of it.
func (w *worker) onHold(n int, rows []want, after holdState, fn func(tx *store.Tx, e ledger.Entry) (ledger.Hold, error)) error {
	h := w.holds[n]
	for i := range rows {
		rows[i].Hold, rows[i].Account = h.ID, h.Account
	}
	var now ledger.Hold
	err := w.do(rows, &after, func(tx *store.Tx, op string) (_ []int64, _ *ledger.Hold, err error) {
		e := rows[0].entry(op)
		now, err = fn(tx, e)
		return nil, &now, err
	})
	if err != nil {
		return err
	}
	if w.holds[n] = now; now.Settled != nil {
		w.holds = slices.Delete(w.holds, n, n+1)
	}
	return nil
}

func (w *worker) extendHold() error {
	n := w.rng.IntN(len(w.holds))
	h := w.holds[n]
	r := want{Type: ledger.HoldPlaced, Amount: w.amount(), Key: w.key()}
	after := stateOf(h)
	after.Amount += r.Amount
	return w.onHold(n, []want{r}, after, func(tx *store.Tx, e ledger.Entry) (ledger.Hold, error) {
		h, _, err := ledger.ExtendHold(tx, h.ID, e, time.Now().Add(time.Hour))
		return h, err
	})
}

func (w *worker) chargeHold() error {
	n := w.rng.IntN(len(w.holds))
	h := w.holds[n]
	if h.Rest() < 2 {
		return w.endHold()
	}
	r := want{Type: ledger.GPUUsage, Amount: 1 + ledger.MicroUSD(w.rng.Int64N(int64(h.Rest()-1))), FromHold: true}
	after := stateOf(h)
	after.Used += r.Amount
	return w.onHold(n, []want{r}, after, func(tx *store.Tx, e ledger.Entry) (ledger.Hold, error) {
		return ledger.ChargeHold(tx, h.ID, r.Type, e)
	})
}

// endHold settles a hold below, at or above what it has, or voids it.
func (w *worker) endHold() error {
	n := w.rng.IntN(len(w.holds))
	h := w.holds[n]
	rest := h.Rest()
	after := stateOf(h)
	after.Open = false
	if w.rng.IntN(3) == 0 {
		after.Refunded = rest
		r := want{Type: ledger.Refund, Amount: rest, FromHold: true}
		return w.onHold(n, []want{r}, after, func(tx *store.Tx, e ledger.Entry) (ledger.Hold, error) {
			return ledger.VoidHold(tx, h.ID, e)
		})
	}
	used := 1 + ledger.MicroUSD(w.rng.Int64N(int64(rest)+1000)) // up to the overage
	rows := []want{{Type: ledger.GPUUsage, Amount: min(used, rest), FromHold: true}}
	after.Used += rows[0].Amount
	switch {
	case used > rest:
		after.Over = used - rest
		rows = append(rows, want{Type: ledger.GPUUsage, Amount: after.Over})
	case used < rest:
		after.Refunded = rest - used
		rows = append(rows, want{Type: ledger.Refund, Amount: after.Refunded, FromHold: true})
	}
	return w.onHold(n, rows, after, func(tx *store.Tx, e ledger.Entry) (ledger.Hold, error) {
		return ledger.SettleHold(tx, h.ID, ledger.GPUUsage, used, e)
	})
}
