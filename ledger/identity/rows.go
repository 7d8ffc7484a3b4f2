package identity

import (
	"iter"

	"ecolink/ledger/store"
)

// values gathers a scan that a limit bounds.
func values[K comparable, V any](rows iter.Seq2[store.Record[K, V], error]) ([]V, error) {
	var out []V
	for row, err := range rows {
		if err != nil {
			return nil, err
		}
		out = append(out, row.Value)
	}
	return out, nil
}

// page gathers the first of a scan that nothing else bounds.
func page[K comparable, V any](rows iter.Seq2[store.Record[K, V], error], limit int) ([]V, error) {
	limit = pageSize(limit)
	var out []V
	for row, err := range rows {
		if err != nil {
			return nil, err
		}
		if out = append(out, row.Value); len(out) == limit {
			break
		}
	}
	return out, nil
}

// ids gathers the second halves of an index's keys.
func ids[ID ~int64](index store.Collection[store.Pair, struct{}], tx *store.Tx, a int64) ([]ID, error) {
	var out []ID
	for row, err := range index.Scan(tx, store.First(a), store.Last(a)) {
		if err != nil {
			return nil, err
		}
		out = append(out, ID(row.Key.B))
	}
	return out, nil
}
