package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever bytes a damaged or forged file gives: no decoder panics, and what one
// accepts has only that form. So the hash chain, which is over the bytes, is over
// what they mean.

// someRows are rows with everything in them, for corpora and tables.
func someRows() []Transfer {
	return []Transfer{
		{Seq: 1, At: noon, Type: TopUp, From: outside(fundingOperator), To: available(alice), Amount: 1, Account: alice, Available: 1},
		{
			Seq: math.MaxInt64, At: time.Unix(0, math.MinInt64).UTC(), Type: GPUUsage, From: held(7), To: outside(revenueGPU), Amount: math.MaxInt64,
			Account: 7, Available: math.MinInt64, Held: math.MaxInt64, Before: 3, Hold: 4, Resource: "gpu-instance/1", RequestID: "r", Key: "k", APIKey: 5,
			Tag: "web", Usage: Usage{Model: "llama", InputTokens: 1, OutputTokens: -2, Images: 3, AudioMillis: 4, VideoMillis: 5, Seconds: 6, Bytes: math.MaxInt64}, Description: "é",
		},
		{Seq: 130, At: noon, Type: AdminCorrection, From: outside(fundingCorrections), To: available(300), Amount: 128, Account: 300},
	}
}

func FuzzDecodeRow(f *testing.F) {
	for _, t := range someRows() {
		f.Add(appendRow(nil, &t))
	}
	f.Add([]byte{})
	f.Add([]byte{rowVersion, 1, byte(fundingOperator), byte(bookAvailable), 0x81, 0x00})
	f.Fuzz(func(t *testing.T, raw []byte) {
		row, err := decodeRow(raw)
		if err != nil {
			return
		}
		if again := appendRow(nil, &row); !bytes.Equal(again, raw) {
			t.Fatalf("%x is read as %+v, which is written as %x", raw, row, again)
		}
	})
}

func FuzzDecodeFront(f *testing.F) {
	first := front{last: 9, at: noon, indexed: "k\x001", rows: 1, tail: appendFramed(nil, []byte("row"), Hash{1})}
	first.totals[revenueAPI] = Balance{In: 5, Out: 300}
	for _, v := range []front{first, {at: time.Unix(0, 0).UTC()}} {
		raw, err := encodeFront(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := decodeFront(raw)
		if err != nil {
			return
		}
		// One that an older EcoLink wrote has fewer books: it is written anew with all.
		again, err := encodeFront(v)
		if err != nil || len(again) < len(raw) || len(again) == len(raw) && !bytes.Equal(again, raw) {
			t.Fatalf("%x is written as %x, %v", raw, again, err)
		}
		if third, err := decodeFront(again); err != nil || third.totals != v.totals || third.last != v.last || third.hash != v.hash ||
			!third.at.Equal(v.at) || third.pruned != v.pruned || third.indexed != v.indexed || third.rows != v.rows || !bytes.Equal(third.tail, v.tail) {
			t.Fatalf("%+v is read again as %+v, %v", v, third, err)
		}
	})
}

func FuzzDecodeWallet(f *testing.F) {
	for _, w := range []wallet{{}, {available: -1, held: 1 << 40, in: math.MaxInt64, out: 7, last: 9, rows: 3, depleted: true}} {
		raw, err := encodeWallet(w)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, err := decodeWallet(raw)
		if err != nil {
			return
		}
		if again, err := encodeWallet(w); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%x is read as %+v, which is written as %x (%v)", raw, w, again, err)
		}
	})
}

func FuzzDecodeNumber(f *testing.F) {
	f.Add([]byte{0x80, 0x01})
	f.Add([]byte{0x01, 0x01})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := numbers.Decode(raw)
		if err != nil {
			return
		}
		if again, err := numbers.Encode(n); err != nil || !bytes.Equal(again, raw) || n < 0 {
			t.Fatalf("%x is read as %d, which is written as %x (%v)", raw, n, again, err)
		}
	})
}

func FuzzPage(f *testing.F) {
	var page []byte
	for _, t := range someRows() {
		page = appendFramed(page, appendRow(nil, &t), Hash{byte(t.Seq)})
	}
	f.Add(page, int64(1))
	f.Add(page[:len(page)-1], int64(2))
	f.Add(append([]byte{0x80, 0x00}, page...), int64(0))
	f.Fuzz(func(t *testing.T, page []byte, n int64) {
		one, ok, oneErr := nth(page, n)
		rows, err := decodePage(page)
		if err == nil {
			var again []byte
			for _, row := range rows {
				again = appendFramed(again, appendRow(nil, &row), row.Hash)
			}
			if !bytes.Equal(again, page) {
				t.Fatalf("%x is written as %x", page, again)
			}
			if oneErr != nil || ok != (n >= 0 && n < int64(len(rows))) {
				t.Fatalf("row %d of %d: %v, %v", n, len(rows), ok, oneErr)
			}
		}
		if ok && n < int64(len(rows)) && one != rows[n] {
			t.Fatalf("row %d is %+v, and by itself %+v", n, rows[n], one)
		}
	})
}

// The records in JSON may be in any form; what is read must survive being written.
func FuzzJSONRecords(f *testing.F) {
	f.Add([]byte(`{"cap":"1.50","month":"2026-03-01T00:00:00Z","spent":"-0.01"}`))
	f.Add([]byte(`{"id":7,"account":1,"amount":"3","overdraft":"0.1","settled":{"at":"2026-03-01T00:00:00Z","refunded":"1"}}`))
	f.Add([]byte(`{"row":1,"amount":"2","reason":"why","hash":"AA==","totals":[{"in":"1","out":"2"}],"depleted":true}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		survives[KeyCap](t, raw)
		survives[Hold](t, raw)
		survives[correction](t, raw)
		survives[Checkpoint](t, raw)
		survives[Standing](t, raw)
	})
}

func survives[V any](t *testing.T, raw []byte) {
	t.Helper()
	var first, second V
	if json.Unmarshal(raw, &first) != nil {
		return
	}
	once, err := json.Marshal(first)
	if err != nil {
		return // a year that JSON has no form for
	}
	if err := json.Unmarshal(once, &second); err != nil {
		t.Fatalf("%T: %s is written as %s, which can't be read: %v", first, raw, once, err)
	}
	if twice, err := json.Marshal(second); err != nil || !bytes.Equal(once, twice) {
		t.Fatalf("%T: %s becomes %s (%v)", first, once, twice, err)
	}
}

func TestDecodersRefuseASecondFormOfTheSameValue(t *testing.T) {
	row := appendRow(nil, &someRows()[0])
	for name, raw := range map[string][]byte{
		"a number with a byte too many": append(append(bytes.Clone(row[:4]), 0x81, 0x00), row[5:]...),
		"a byte behind the end":         append(bytes.Clone(row), 0),
		"a quantity of zero":            append(bytes.Clone(row[:len(row)-1]), 1, 0),
		"an unknown quantity":           append(bytes.Clone(row[:len(row)-1]), 0x80),
		"another version":               append([]byte{rowVersion + 1}, row[1:]...),
		"an unknown type":               append([]byte{rowVersion, byte(len(typeCodes) + 1)}, row[2:]...),
		"no book":                       append([]byte{rowVersion, row[1], 0}, row[3:]...),
		"an unknown book":               append([]byte{rowVersion, row[1], byte(numBooks)}, row[3:]...),
		"cut short":                     row[:len(row)-1],
	} {
		if got, err := decodeRow(raw); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

func TestRowsOfAnyContentSurviveEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(rapid.Int64Min(0), rapid.SampledFrom([]int64{0, 127, 128, 1 << 14, math.MaxInt64}))
		text := rapid.StringN(0, 40, maxWordBytes)
		row := Transfer{
			Seq: number.Draw(t, "seq"), At: time.Unix(0, rapid.Int64().Draw(t, "at")).UTC(), Type: rapid.SampledFrom(typeCodes).Draw(t, "type"),
			Amount: MicroUSD(number.Draw(t, "amount")), Account: 7, Available: MicroUSD(rapid.Int64().Draw(t, "available")), Held: MicroUSD(rapid.Int64().Draw(t, "held")),
			Before: number.Draw(t, "before"), Resource: text.Draw(t, "resource"), Key: text.Draw(t, "key"), Description: text.Draw(t, "description"),
			Usage: Usage{Model: text.Draw(t, "model"), InputTokens: rapid.Int64().Draw(t, "input"), Bytes: rapid.Int64().Draw(t, "bytes")},
			From:  available(7), To: outside(revenueAPI),
		}
		raw := appendRow(nil, &row)
		got, err := decodeRow(raw)
		if err != nil || got != row {
			t.Fatalf("%+v is read as %+v, %v", row, got, err)
		}
		// A number in front of it says how long it is; nothing else may follow.
		if _, err := decodeRow(binary.AppendUvarint(raw, 0)); err == nil {
			t.Fatal("a byte too many was taken")
		}
	})
}
