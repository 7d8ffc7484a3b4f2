package ledger

import (
	"encoding/binary"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// front is where the journal grows: how far it is, the totals, the newest rows and
// their wallets, all in one record, so that a commit of one row writes as few
// pages of the database as can be: each costs as much as a tenth of an fsync. When
// the newest rows fill a page, that page goes to the journal's own bucket, where
// it is never written again, and the wallets go to theirs.
type front struct {
	last   int64     // the newest row
	hash   Hash      // its hash
	at     time.Time // its time
	pruned int64     // rows up to this one lie in archives
	// greatest is the greatest idempotency key that any row has, and indexed that
	// of the index. Keys that rise with time are beyond both, and need not be
	// looked up.
	greatest, indexed string
	totals            books
	// hot are the wallets that the newest rows have changed, as they are now; the
	// wallets' own bucket has them as they were before those rows.
	hot  hotWallets
	tail []byte // the newest rows, as a page
	rows int64  // of tail
}

const frontVersion = 1

// fronts has the one record.
var fronts = store.NewStringCollection[string, front]("ledger.front").With(store.Codec[front]{Encode: encodeFront, Decode: decodeFront})

const frontKey = "front"

func encodeFront(f front) ([]byte, error) {
	out := make([]byte, 0, 512+len(f.greatest)+len(f.indexed)+len(f.hot)+len(f.tail))
	out = append(out, frontVersion)
	out = binary.AppendUvarint(out, uint64(f.last))
	out = append(out, f.hash[:]...)
	out = binary.AppendVarint(out, f.at.UnixNano())
	out = binary.AppendUvarint(out, uint64(f.pruned))
	for _, key := range [...]string{f.greatest, f.indexed} {
		out = binary.AppendUvarint(out, uint64(len(key)))
		out = append(out, key...)
	}
	out = append(out, byte(numBooks))
	for _, b := range f.totals {
		out = binary.AppendUvarint(out, uint64(b.In))
		out = binary.AppendUvarint(out, uint64(b.Out))
	}
	out = binary.AppendUvarint(out, uint64(f.hot.len()))
	out = append(out, f.hot...)
	out = binary.AppendUvarint(out, uint64(f.rows))
	return append(out, f.tail...), nil
}

func decodeFront(raw []byte) (f front, err error) {
	r := reader{raw: raw}
	if r.byte() != frontVersion {
		r.fail()
	}
	f.last = r.positive()
	f.hash = r.hash()
	f.at = time.Unix(0, r.varint()).UTC()
	f.pruned = r.positive()
	f.greatest, f.indexed = r.text(), r.text()
	n := int(r.byte())
	if n > len(f.totals) {
		r.fail()
		n = 0
	}
	for i := range n {
		f.totals[i] = Balance{In: MicroUSD(r.positive()), Out: MicroUSD(r.positive())}
	}
	hot := r.uvarint()
	if hot > uint64(len(r.raw)) {
		r.fail()
		hot = 0
	}
	f.hot = r.bytes(hot * hotBytes)
	f.rows = r.positive()
	f.tail = r.raw
	return f, r.err
}

// walletOf reads an account's wallet as the front and the wallets' bucket have it.
func (f *front) walletOf(tx *store.Tx, a identity.AccountID) (wallet, error) {
	if w, ok := f.hot.find(a); ok {
		return w, nil
	}
	w, _, err := wallets.Get(tx, a)
	return w, err
}

// wallet is an account's record: its money, and where its statement begins.
type wallet struct {
	available, held MicroUSD
	in, out         MicroUSD // from and to outside, ever
	last            int64    // its newest row
	rows            int64    // how many it has
	depleted        bool     // its standing, see standing.go
}

const walletVersion = 1

var wallets = store.NewIntCollection[identity.AccountID, wallet]("ledger.wallets").With(store.Codec[wallet]{Encode: encodeWallet, Decode: decodeWallet})

// ChangedAccount is the account that a change of StandingBucket is about.
func ChangedAccount(ch store.Change) identity.AccountID { return wallets.KeyOf(ch) }

func encodeWallet(w wallet) ([]byte, error) {
	return appendWallet(append(make([]byte, 0, 48), walletVersion), w), nil
}

func appendWallet(out []byte, w wallet) []byte {
	out = binary.AppendVarint(out, int64(w.available))
	out = binary.AppendVarint(out, int64(w.held))
	out = binary.AppendVarint(out, int64(w.in))
	out = binary.AppendVarint(out, int64(w.out))
	out = binary.AppendUvarint(out, uint64(w.last))
	out = binary.AppendUvarint(out, uint64(w.rows))
	if w.depleted {
		return append(out, 1)
	}
	return append(out, 0)
}

func decodeWallet(raw []byte) (wallet, error) {
	r := reader{raw: raw}
	if r.byte() != walletVersion {
		r.fail()
	}
	w := r.wallet()
	if r.err == nil && len(r.raw) != 0 {
		r.fail()
	}
	return w, r.err
}

func (r *reader) wallet() (w wallet) {
	w.available, w.held = MicroUSD(r.varint()), MicroUSD(r.varint())
	w.in, w.out = MicroUSD(r.varint()), MicroUSD(r.varint())
	w.last, w.rows = r.positive(), r.positive()
	depleted := r.byte()
	if w.depleted = depleted == 1; depleted > 1 {
		r.fail()
	}
	return w
}

// move changes the wallet by one row.
func (w *wallet) move(from, to Book, amount MicroUSD) (err error) {
	next := *w
	for _, side := range [...]struct {
		book   Book
		amount MicroUSD
	}{{from, -amount}, {to, amount}} {
		switch side.book.kind {
		case bookAvailable:
			next.available, err = next.available.Add(side.amount)
		case bookHeld:
			next.held, err = next.held.Add(side.amount)
		}
		if err != nil {
			return err
		}
	}
	if !from.wallet() {
		next.in, err = next.in.Add(amount)
	} else if !to.wallet() {
		next.out, err = next.out.Add(amount)
	}
	if err != nil {
		return err
	}
	*w = next
	return nil
}
