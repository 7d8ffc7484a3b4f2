package identity

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"ecolink/ledger/store"
)

const good = "correct horse battery"

// newFastHasher is for tests in which the cost is not the point.
func newFastHasher(limit int) *Hasher {
	h := NewHasher(limit)
	h.cost = cost{memoryKiB: 64, passes: 1, lanes: 1}
	return h
}

func TestAPasswordMatchesItsHashAndNoOtherDoes(t *testing.T) {
	h, ctx := NewHasher(1), t.Context()
	hash, err := h.Hash(ctx, good)
	mustNil(t, err)
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=65536,t=3,p=2$") {
		t.Errorf("hash %s", hash)
	}
	if ok, rehash, err := h.Verify(ctx, hash, good); !ok || rehash || err != nil {
		t.Errorf("right password: %v, rehash %v, %v", ok, rehash, err)
	}
	if ok, _, err := h.Verify(ctx, hash, good+" "); ok || err != nil {
		t.Errorf("wrong password: %v, %v", ok, err)
	}
}

func TestTheSamePasswordNeverHashesTwiceAlike(t *testing.T) {
	h := newFastHasher(1)
	a, err := h.Hash(t.Context(), good)
	mustNil(t, err)
	b, err := h.Hash(t.Context(), good)
	mustNil(t, err)
	if a == b {
		t.Error("two hashes have one salt")
	}
}

func TestPasswordsHaveALengthRange(t *testing.T) {
	h := newFastHasher(1)
	for p, want := range map[string]bool{
		"123456789": false, "1234567890": true, "ééééééééé": false, "éééééééééé": true,
		strings.Repeat("x", maxPasswordBytes): true, strings.Repeat("x", maxPasswordBytes+1): false,
	} {
		_, err := h.Hash(t.Context(), p)
		if want {
			mustNil(t, err)
		} else {
			wantKind(t, err, ErrInvalid, "password")
		}
	}
}

func TestAnUnknownEmailCostsAsMuchAsAWrongPassword(t *testing.T) {
	b := newBox(t)
	h := NewHasher(1)
	h.cost = cost{memoryKiB: 64, passes: 1, lanes: 1}
	hash, err := h.Hash(t.Context(), good)
	mustNil(t, err)
	b.update(func(tx *store.Tx) error {
		_, err := CreateUser(tx, NewUser{Email: "no-password@example.com"}, start)
		mustNil(t, err)
		return SetPassword(tx, b.owner, hash)
	})
	var work []cost
	h.derive = func(p, s []byte, passes, memory uint32, lanes uint8, n uint32) []byte {
		work = append(work, cost{memory, passes, lanes})
		return argon2.IDKey(p, s, passes, memory, lanes, n)
	}
	var said string
	for _, c := range []struct{ email, password string }{
		{"owner@example.com", "wrong password"},
		{"nobody@example.com", good},
		{"not an address", good},
		{"no-password@example.com", good},
		{"no-password@example.com", ""},
		{"owner@example.com", strings.Repeat("x", maxPasswordBytes+1)},
	} {
		work = nil
		_, err := h.Authenticate(t.Context(), b.db, c.email, c.password)
		wantKind(t, err, ErrUnauthorized, "")
		if said == "" {
			said = err.Error()
		}
		if len(work) != 1 || work[0] != h.cost || err.Error() != said {
			t.Errorf("%s: work %v, error %v", c.email, work, err)
		}
	}
	u, err := h.Authenticate(t.Context(), b.db, "Owner@Example.com", good)
	if err != nil || u.ID != b.owner {
		t.Errorf("the right password: %+v, %v", u, err)
	}
}

func TestLoggingInReplacesAHashOfYesterdaysCost(t *testing.T) {
	b := newBox(t)
	yesterday, today := newFastHasher(1), newFastHasher(1)
	today.cost.passes = 2
	old, err := yesterday.Hash(t.Context(), good)
	mustNil(t, err)
	b.update(func(tx *store.Tx) error { return SetPassword(tx, b.owner, old) })
	_, token := b.session(b.owner, start)
	stored := func() (hash string) {
		mustNil(t, b.view(func(tx *store.Tx) error {
			r, err := readUser(tx, b.owner)
			hash = r.PasswordHash
			return err
		}))
		return hash
	}
	_, err = today.Authenticate(t.Context(), b.db, "owner@example.com", "not the password")
	wantKind(t, err, ErrUnauthorized, "")
	if stored() != old {
		t.Error("a wrong password replaced the hash")
	}
	_, err = today.Authenticate(t.Context(), b.db, "owner@example.com", good)
	mustNil(t, err)
	if ok, rehash, err := today.Verify(t.Context(), stored(), good); !ok || rehash || err != nil {
		t.Errorf("after the log-in: %v, rehash %v, %v", ok, rehash, err)
	}
	_, err = b.findSession(token, start)
	mustNil(t, err) // an upgrade is no change of password
	b.update(func(tx *store.Tx) error { return upgradeHash(tx, b.owner, old, anyHash) })
	if stored() == anyHash {
		t.Error("an upgrade of a hash that is no longer there undid a change")
	}
}

func TestAHundredLogInsTakeTheMemoryOfTwo(t *testing.T) {
	h := newFastHasher(2)
	var now, most atomic.Int64
	h.derive = func(p, s []byte, passes, memory uint32, lanes uint8, n uint32) []byte {
		defer now.Add(-1)
		for n := now.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		time.Sleep(time.Millisecond)
		return argon2.IDKey(p, s, passes, memory, lanes, n)
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, _, err := h.Verify(context.Background(), "", good); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() != 2 {
		t.Errorf("%d hashed at once, want 2", most.Load())
	}
}

func TestWhoCanNotWaitForAHasherIsToldSo(t *testing.T) {
	h := newFastHasher(1)
	h.slots <- struct{}{} // somebody else is at it
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range maxWaitingHashes {
		wg.Go(func() {
			if _, _, err := h.Verify(ctx, "", good); !errors.Is(err, context.Canceled) {
				t.Errorf("waiting: %v", err)
			}
		})
	}
	for h.waiting.Load() < maxWaitingHashes {
		time.Sleep(time.Millisecond)
	}
	_, err := h.Hash(t.Context(), good)
	wantKind(t, err, ErrBusy, "")
	cancel()
	wg.Wait()
	<-h.slots
	_, err = h.Hash(t.Context(), good)
	mustNil(t, err)
}

func TestHashesThatOursWouldNotWriteAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "$", "plain", strings.Replace(anyHash, "argon2id", "argon2i", 1), strings.Replace(anyHash, "v=19", "v=16", 1),
		strings.Replace(anyHash, "m=65536", "m=4294967295", 1), strings.Replace(anyHash, "m=65536", "m=065536", 1),
		strings.Replace(anyHash, "t=3", "t=0", 1), strings.Replace(anyHash, "p=2", "p=300", 1), anyHash + "$", anyHash + "=",
		strings.Replace(anyHash, "p=2", "p=2,x=1", 1),
	} {
		if _, err := parsePHC(s); err == nil {
			t.Errorf("%q was taken", s)
		}
		if s == "" {
			continue
		}
		if ok, _, err := newFastHasher(1).Verify(t.Context(), s, good); ok || err == nil {
			t.Errorf("%q was verified against", s)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add(anyHash)
	f.Add("$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		if p.String() != s || p.memoryKiB > maxMemoryKiB || p.passes > maxPasses || p.lanes > maxLanes {
			t.Errorf("%q was read as %+v", s, p)
		}
		if q, err := parsePHC(p.String()); err != nil || !bytes.Equal(p.tag, q.tag) {
			t.Errorf("%q does not survive a round trip", s)
		}
	})
}
