package ledger

import (
	"encoding/binary"
	"slices"
	"sort"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// hotWallets are wallets that lie in the front record, one after the other with
// rising accounts, each in hotBytes: they are found without decoding the others.
//
// A commit that changes many accounts would have to write as many pages of the
// wallets' bucket, all over the file. In the front they are one piece, and each
// page of the bucket is written once for several commits.
type hotWallets []byte

const (
	hotBytes = 7*8 + 1
	// minHot and maxHot bound how many wallets are hot; in between, four times as
	// many as the last commit has changed: writing them again must cost less than
	// what it spares.
	minHot  = 256
	maxHot  = 4096
	hotRuns = 4
)

func (h hotWallets) len() int { return len(h) / hotBytes }

func (h hotWallets) at(n int) (identity.AccountID, wallet) {
	next := func(i int) uint64 { return binary.BigEndian.Uint64(h[n*hotBytes+8*i:]) }
	return identity.AccountID(next(0)), wallet{
		available: MicroUSD(next(1)), held: MicroUSD(next(2)), in: MicroUSD(next(3)), out: MicroUSD(next(4)),
		last: int64(next(5)), rows: int64(next(6)), depleted: h[n*hotBytes+7*8] == 1,
	}
}

func (h hotWallets) account(n int) identity.AccountID {
	return identity.AccountID(binary.BigEndian.Uint64(h[n*hotBytes:]))
}

func (h hotWallets) find(a identity.AccountID) (w wallet, ok bool) {
	n := sort.Search(h.len(), func(n int) bool { return h.account(n) >= a })
	if n == h.len() || h.account(n) != a {
		return wallet{}, false
	}
	_, w = h.at(n)
	return w, true
}

func (h hotWallets) add(a identity.AccountID, w wallet) hotWallets {
	for _, v := range [...]int64{int64(a), int64(w.available), int64(w.held), int64(w.in), int64(w.out), w.last, w.rows} {
		h = binary.BigEndian.AppendUint64(h, uint64(v))
	}
	if w.depleted {
		return append(h, 1)
	}
	return append(h, 0)
}

// merge gives the hot wallets with those of the given accounts as they are now.
func (h hotWallets) merge(changed []identity.AccountID, now map[identity.AccountID]*touched) hotWallets {
	slices.Sort(changed)
	out := make(hotWallets, 0, len(h)+len(changed)*hotBytes)
	n := 0
	for _, a := range changed {
		first := n
		for n < h.len() && h.account(n) < a {
			n++
		}
		out = append(out, h[first*hotBytes:n*hotBytes]...)
		if n < h.len() && h.account(n) == a {
			n++
		}
		out = out.add(a, now[a].wallet)
	}
	return append(out, h[n*hotBytes:]...)
}

// flushWallets keeps the wallets that have changed hot, or writes all that are to
// their bucket when they have become too many.
func (b *batch) flushWallets(tx *store.Tx) error {
	var changed []identity.AccountID
	for a, w := range b.wallets {
		if w.dirty {
			changed = append(changed, a)
		}
	}
	hot := b.hot.merge(changed, b.wallets)
	if hot.len() <= min(maxHot, max(minHot, hotRuns*len(changed))) {
		b.hot = hot
		return nil
	}
	b.hot = nil
	for n := range hot.len() {
		a, w := hot.at(n)
		if err := wallets.Put(tx, a, w); err != nil {
			return err
		}
	}
	return nil
}
