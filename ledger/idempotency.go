package ledger

import (
	"encoding/binary"
	"fmt"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// numbers is the codec of indexes that give a row's number.
var numbers = store.Codec[int64]{
	Encode: func(n int64) ([]byte, error) { return binary.AppendUvarint(nil, uint64(n)), nil },
	Decode: func(raw []byte) (int64, error) {
		r := reader{raw: raw}
		n := r.positive()
		if len(r.raw) != 0 {
			r.fail()
		}
		return n, r.err
	},
}

// keyOf is where the index has an idempotency key: behind those that are smaller,
// whosever they are, so that keys that rise with time are appended.
func keyOf(a identity.AccountID, key string) string {
	return key + string(binary.BigEndian.AppendUint64([]byte{0}, uint64(a)))
}

// index enters a row that leaves the tail: from here on its key is looked up.
func (b *batch) index(tx *store.Tx, seq int64, raw []byte) error {
	var t Transfer
	if n := seq - (b.last - int64(len(b.fresh))) - 1; n >= 0 {
		t = b.fresh[n]
	} else {
		var err error
		if t, err = decodeRow(raw); err != nil {
			return err
		}
	}
	if t.Key == "" {
		return nil
	}
	k := keyOf(t.Account, t.Key)
	if k > b.indexed {
		b.indexed = k
	}
	return keyed.Put(tx, k, t.Seq)
}

// seen looks an idempotency key up. The same key with the same request gives the
// row that the first call made; with another request it is an error.
func seen(tx *store.Tx, m movement) (row Transfer, ok bool, err error) {
	if m.Key == "" {
		return row, false, nil
	}
	b, err := batchOf(tx)
	if err != nil {
		return row, false, err
	}
	row, ok, err = b.keyed(tx, m.Account, m.Key)
	if err != nil || !ok {
		return row, false, err
	}
	same := row.Type == m.kind && row.From == m.from && row.To == m.to && row.Amount == m.Amount && row.Resource == m.Resource &&
		row.Usage == m.Usage && row.Tag == m.Tag && row.Description == cut(m.Description, maxDescriptionBytes)
	if !same || m.hold != 0 && row.Hold != m.hold {
		return row, false, fmt.Errorf("%q: %w", m.Key, ErrKeyReused)
	}
	return row, true, nil
}

// keyed finds the row that a key made: among those of this transaction and the
// newest before it, or in the index. Most keys are new and greater than any
// before, and cost a comparison.
func (b *batch) keyed(tx *store.Tx, a identity.AccountID, key string) (Transfer, bool, error) {
	k := keyOf(a, key)
	if k > b.greatest {
		return Transfer{}, false, nil
	}
	if err := b.knowKeys(); err != nil {
		return Transfer{}, false, err
	}
	seq, ok := b.recent[k]
	if !ok && k <= b.indexed {
		var err error
		if seq, ok, err = keyed.Get(tx, k); err != nil {
			return Transfer{}, false, err
		}
	}
	if !ok {
		return Transfer{}, false, nil
	}
	t, err := rowAt(tx, seq)
	return t, err == nil, err
}

// knowKeys brings the keys of the rows that are not indexed yet up to date.
func (b *batch) knowKeys() error {
	if b.recent == nil {
		rows, err := decodePage(b.tail)
		if err != nil {
			return fmt.Errorf("newest rows: %w", err)
		}
		b.recent = make(map[string]int64, len(rows))
		for n := range rows {
			b.know(&rows[n])
		}
	}
	for ; b.known < len(b.fresh); b.known++ {
		b.know(&b.fresh[b.known])
	}
	return nil
}

func (b *batch) know(t *Transfer) {
	if t.Key != "" {
		b.recent[keyOf(t.Account, t.Key)] = t.Seq
	}
}
