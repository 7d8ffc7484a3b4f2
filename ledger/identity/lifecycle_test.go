package identity

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"ecolink/ledger/store"
)

var errUndo = errors.New("undo")

// inScratch runs one walk in a transaction that is undone: thousands of walks
// need no fsync, and each begins with the same box.
func inScratch(t *rapid.T, db *store.Store, fn func(*store.Tx)) {
	if err := db.Update(context.Background(), func(tx *store.Tx) error { fn(tx); return errUndo }); !errors.Is(err, errUndo) {
		t.Fatal(err)
	}
}

// TestKeysBehaveLikeASetOfSecrets walks creations, look-ups, touches and
// revocations beside a model.
func TestKeysBehaveLikeASetOfSecrets(t *testing.T) {
	b := newBox(t)
	type known struct {
		key     Key
		secret  string
		revoked bool
		touched time.Time
	}
	rapid.Check(t, func(t *rapid.T) {
		inScratch(t, b.db, func(tx *store.Tx) {
			second, err := CreateAccount(tx, "Second", start)
			mustNil(t, err)
			mustNil(t, AddMember(tx, second.ID, b.owner, RoleOwner))
			var all []*known
			now := start
			pick := func(t *rapid.T) *known {
				if len(all) == 0 {
					t.Skip("no keys yet")
				}
				return rapid.SampledFrom(all).Draw(t, "key")
			}
			t.Repeat(map[string]func(*rapid.T){
				"create": func(t *rapid.T) {
					account := rapid.SampledFrom([]AccountID{b.account, second.ID}).Draw(t, "account")
					k, secret, err := CreateKey(tx, account, b.owner, "k", "", now)
					mustNil(t, err)
					all = append(all, &known{key: k, secret: secret})
				},
				"revoke": func(t *rapid.T) {
					k := pick(t)
					mustNil(t, RevokeKey(tx, k.key.Account, k.key.ID, now))
					k.revoked = true
				},
				"revoke in the wrong account": func(t *rapid.T) {
					k := pick(t)
					wrong := b.account + second.ID - k.key.Account
					wantKind(t, RevokeKey(tx, wrong, k.key.ID, now), ErrNotFound, "")
				},
				"touch": func(t *rapid.T) {
					k := pick(t)
					mustNil(t, TouchKey(tx, k.key.ID, now))
					if now.Sub(k.touched) >= time.Minute {
						k.touched = now
					}
				},
				"wait": func(t *rapid.T) {
					now = now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "seconds")) * time.Second)
				},
				"": func(t *rapid.T) {
					live := map[AccountID][]KeyID{}
					for _, k := range all {
						got, err := FindKey(tx, k.secret)
						if k.revoked {
							wantKind(t, err, ErrUnauthorized, "")
							continue
						}
						mustNil(t, err)
						want := k.key
						want.LastUsed = k.touched
						if got != want {
							t.Fatalf("found %+v, want %+v", got, want)
						}
						live[want.Account] = append(live[want.Account], want.ID)
					}
					for _, account := range []AccountID{b.account, second.ID} {
						list, err := ListKeys(tx, account)
						mustNil(t, err)
						var got []KeyID
						for _, k := range list {
							got = append(got, k.ID)
						}
						if !slices.Equal(got, live[account]) {
							t.Fatalf("account %d lists %v, want %v", account, got, live[account])
						}
					}
				},
			})
		})
	})
}

// TestEachEmailIsTakenOnceHoweverItIsWritten draws few addresses in many spellings.
func TestEachEmailIsTakenOnceHoweverItIsWritten(t *testing.T) {
	b := newBox(t)
	rapid.Check(t, func(t *rapid.T) {
		inScratch(t, b.db, func(tx *store.Tx) {
			model := map[string]UserID{"owner@example.com": b.owner}
			for range rapid.IntRange(1, 20).Draw(t, "steps") {
				plain := rapid.StringMatching(`(owner|a|b\.c)@(example\.com|d\.e)`).Draw(t, "e-mail")
				spelt := spell(t, plain)
				u, err := CreateUser(tx, NewUser{Email: spelt}, start)
				if _, taken := model[plain]; taken {
					wantKind(t, err, ErrExists, "email")
				} else {
					mustNil(t, err)
					if u.Email != plain {
						t.Fatalf("%q was stored as %q", spelt, u.Email)
					}
					model[plain] = u.ID
				}
				got, err := UserByEmail(tx, spell(t, plain))
				mustNil(t, err)
				if got.ID != model[plain] {
					t.Fatalf("%q is user %d, want %d", plain, got.ID, model[plain])
				}
			}
		})
	})
}

func spell(t *rapid.T, s string) string {
	space := rapid.StringMatching(`[ \t\n]{0,2}`)
	return space.Draw(t, "before") + strings.Map(func(r rune) rune {
		if rapid.Bool().Draw(t, "upper") {
			return unicode.ToUpper(r)
		}
		return r
	}, s) + space.Draw(t, "after")
}

func TestKeySecretsUseTheWholeAlphabetAndNeverRepeat(t *testing.T) {
	seen, count := map[string]bool{}, map[rune]int{}
	const n = 2000
	for range n {
		s := newKeySecret()
		if seen[s] || !LooksLikeKey(s) {
			t.Fatalf("secret %q", s)
		}
		seen[s] = true
		for _, r := range s[len(keyPrefix):] {
			count[r]++
		}
	}
	mean := n * keyRandomChars / len(base62) // about 1290, standard deviation about 36
	for _, r := range base62 {
		if c := count[r]; c < mean*8/10 || c > mean*12/10 {
			t.Errorf("%q came %d times of %d expected", r, c, mean)
		}
	}
}

func FuzzLooksLikeKey(f *testing.F) {
	f.Add(newKeySecret())
	f.Add("eco_")
	f.Add("eco_" + strings.Repeat("é", 20))
	f.Fuzz(func(t *testing.T, s string) {
		if !LooksLikeKey(s) {
			return
		}
		if len(s) != 44 || strings.Trim(s[4:], base62) != "" || strings.TrimSpace(s) != s {
			t.Errorf("%q was taken for a key", s)
		}
	})
}

func FuzzNormalizeEmail(f *testing.F) {
	for _, s := range []string{"a@b.c", " A.b+c@X.Y ", "a@localhost", "\u212a@b.c", "a@b@c", "\"a b\"@c.d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := NormalizeEmail(s)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || got != "" {
				t.Errorf("%q: %q, %v", s, got, err)
			}
			return
		}
		if again, err := NormalizeEmail(got); err != nil || again != got {
			t.Errorf("%q became %q and then %q, %v", s, got, again, err)
		}
		if got != strings.ToLower(got) || strings.Count(got, "@") != 1 || strings.ContainsAny(got, " \t\r\n<>,;\"") || len(got) > maxEmailBytes {
			t.Errorf("%q became %q", s, got)
		}
	})
}
