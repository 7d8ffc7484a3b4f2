package session

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// pattern returns bytes that tell their own numbers: the stream's bytes [from,
// from+n).
func pattern(from int64, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		at := uint64(from) + uint64(i)
		p[i] = byte(at ^ at>>8*31 ^ at>>16*17)
	}
	return p
}

func readerOf(r *ring, asked int64) *reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reader(asked)
}

// TestTheRingIsTheEndOfAnEndlessStream compares it with a model that keeps
// everything.
func TestTheRingIsTheEndOfAnEndlessStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 64).Draw(t, "size")
		r := newRing(newMemoryStore(size), allowance{})
		var stream []byte // all that was ever written
		closed := false
		type place struct {
			*reader
			next int64
			left bool
		}
		var places []*place
		oldest := func() int64 { return int64(max(0, len(stream)-size)) }
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				if closed {
					t.Skip()
				}
				p := pattern(int64(len(stream)), rapid.IntRange(0, 3*size).Draw(t, "length"))
				stream = append(stream, p...)
				r.write(p)
			},
			"attach": func(t *rapid.T) {
				asked := rapid.Int64Range(FromNow, int64(len(stream))+5).Draw(t, "asked")
				want := min(max(asked, oldest()), int64(len(stream)))
				if asked == FromNow {
					want = int64(len(stream))
				}
				d := readerOf(r, asked)
				if d.next != want {
					t.Fatalf("attached at %d, want %d", d.next, want)
				}
				places = append(places, &place{reader: d, next: want})
			},
			"read": func(t *rapid.T) {
				if len(places) == 0 {
					t.Skip()
				}
				d := rapid.SampledFrom(places).Draw(t, "place")
				if d.next == int64(len(stream)) && !closed && !d.left {
					t.Skip() // it would wait
				}
				dst := make([]byte, rapid.IntRange(1, 2*size).Draw(t, "room"))
				n, err := d.read(dst)
				switch {
				case d.left:
					if n != 0 || err != errLeft {
						t.Fatalf("after leave: %d, %v", n, err)
					}
				case d.next < oldest():
					if n != 0 || err != errFellBehind {
						t.Fatalf("behind: %d, %v", n, err)
					}
				case d.next == int64(len(stream)):
					if n != 0 || err != io.EOF {
						t.Fatalf("at the end: %d, %v", n, err)
					}
				default:
					want := stream[d.next:]
					want = want[:min(len(want), len(dst))]
					if err != nil || !bytes.Equal(dst[:n], want) {
						t.Fatalf("from %d: %d bytes %x, %v; want %x", d.next, n, dst[:n], err, want)
					}
					d.next += int64(n)
				}
			},
			"leave": func(t *rapid.T) {
				if len(places) == 0 {
					t.Skip()
				}
				d := rapid.SampledFrom(places).Draw(t, "place")
				d.left = true
				d.leave(false)
			},
			"close": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					closed = true
					r.close()
				}
			},
			"": func(t *rapid.T) {
				if r.total() != int64(len(stream)) {
					t.Fatalf("total %d, want %d", r.total(), len(stream))
				}
			},
		})
	})
}

func TestAReadWaitsForNews(t *testing.T) {
	news := map[string]struct {
		happens func(*ring, *reader)
		err     error
	}{
		"bytes":           {func(r *ring, _ *reader) { r.write([]byte("x")) }, nil},
		"the end":         {func(r *ring, _ *reader) { r.close() }, io.EOF},
		"that one leaves": {func(_ *ring, d *reader) { d.leave(false) }, errLeft},
	}
	for name, row := range news {
		t.Run(name, func(t *testing.T) {
			r := newRing(newMemoryStore(8), allowance{})
			d := readerOf(r, FromNow)
			got := make(chan error)
			go func() {
				_, err := d.read(make([]byte, 8))
				got <- err
			}()
			select {
			case err := <-got:
				t.Fatalf("it did not wait: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
			row.happens(r, d)
			if err := <-got; !errors.Is(err, row.err) {
				t.Fatalf("got %v, want %v", err, row.err)
			}
		})
	}
}
