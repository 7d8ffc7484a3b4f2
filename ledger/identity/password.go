package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"ecolink/ledger/store"
)

// cost is what one guess at a password takes.
type cost struct {
	memoryKiB uint32
	passes    uint32
	lanes     uint8
}

// defaultCost is RFC 9106 section 4's second recommended option (t=3, m=64 MiB,
// 128-bit salt, 256-bit tag), but with 2 lanes in place of 4. Lanes change
// neither the memory nor the work of a guess, only how many cores one log-in
// occupies at once, and the box has better uses for its cores.
var defaultCost = cost{memoryKiB: 64 << 10, passes: 3, lanes: 2}

const (
	saltBytes = 16
	tagBytes  = 32

	// A stored hash may not ask for more than this, whoever wrote it.
	maxMemoryKiB = 256 << 10
	maxPasses    = 16
	maxLanes     = 16
)

// Hasher hashes and checks passwords, few at a time: each takes 64 MiB while it
// lasts, and a hundred log-ins at once must not take 6 GiB. Share one per process.
// Never call it inside a transaction.
type Hasher struct {
	cost    cost
	slots   chan struct{} // one is held while hashing
	waiting atomic.Int64
	derive  func(password, salt []byte, passes, memoryKiB uint32, lanes uint8, tagBytes uint32) []byte
}

// NewHasher makes a Hasher that works on at most limit passwords at once.
func NewHasher(limit int) *Hasher {
	return &Hasher{cost: defaultCost, slots: make(chan struct{}, max(limit, 1)), derive: argon2.IDKey}
}

// CheckPassword refuses passwords that Hash would refuse, without the work.
func CheckPassword(password string) error {
	if utf8.RuneCountInString(password) < MinPasswordRunes {
		return failField(ErrInvalid, "password", "the password is too short: use at least %d characters", MinPasswordRunes)
	}
	if len(password) > maxPasswordBytes {
		return failField(ErrInvalid, "password", "the password is too long: use at most %d bytes", maxPasswordBytes)
	}
	return nil
}

// Hash makes the PHC string of a new password, to be stored with a user.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	p := phc{cost: h.cost, salt: make([]byte, saltBytes)}
	rand.Read(p.salt)
	var err error
	p.tag, err = h.work(ctx, password, p, tagBytes)
	return p.String(), err
}

// Verify tells whether the password is the one that was hashed, and whether the
// hash is not of today's cost and should be replaced. An empty hash belongs to a
// user who is unknown or has no password: it never matches, and takes as long.
func (h *Hasher) Verify(ctx context.Context, hash, password string) (ok, rehash bool, err error) {
	p, known := phc{cost: h.cost, salt: make([]byte, saltBytes), tag: make([]byte, tagBytes)}, false
	if hash != "" {
		if p, err = parsePHC(hash); err != nil {
			return false, false, err
		}
		known = true
	}
	if len(password) > maxPasswordBytes {
		password, known = "", false
	}
	tag, err := h.work(ctx, password, p, uint32(len(p.tag)))
	if err != nil {
		return false, false, err
	}
	same := subtle.ConstantTimeCompare(tag, p.tag) == 1
	current := p.cost == h.cost && len(p.salt) == saltBytes && len(p.tag) == tagBytes
	return same && known, same && known && !current, nil
}

// Authenticate finds the user who signs in. An unknown e-mail takes as long as a
// wrong password and gives the same ErrUnauthorized. A hash of yesterday's cost
// is replaced on the way.
func (h *Hasher) Authenticate(ctx context.Context, db *store.Store, email, password string) (User, error) {
	var r userRecord
	err := db.View(func(tx *store.Tx) (err error) {
		r, err = userRecordByEmail(tx, email)
		return err
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return User{}, fmt.Errorf("authenticate: %w", err)
	}
	ok, rehash, err := h.Verify(ctx, r.PasswordHash, password)
	if err != nil {
		return User{}, fmt.Errorf("authenticate: %w", err)
	}
	if !ok {
		return User{}, fail(ErrUnauthorized, "the e-mail or the password is wrong: check both, or ask the operator for a new password")
	}
	if rehash {
		// Best effort: an old password that is too short by today's rule, or a
		// full queue, leaves the old hash for the next log-in.
		if better, err := h.Hash(ctx, password); err == nil {
			err := db.Update(ctx, func(tx *store.Tx) error { return upgradeHash(tx, r.ID, r.PasswordHash, better) })
			if err != nil {
				return User{}, fmt.Errorf("authenticate: upgrade the hash of user %d: %w", r.ID, err)
			}
		}
	}
	return r.User, nil
}

// work derives a tag while it holds a slot. ctx ends the wait for one, not the work.
func (h *Hasher) work(ctx context.Context, password string, p phc, tagBytes uint32) ([]byte, error) {
	if h.waiting.Add(1) > maxWaitingHashes {
		h.waiting.Add(-1)
		return nil, fail(ErrBusy, "too many people are signing in at this moment: try again in a few seconds")
	}
	select {
	case h.slots <- struct{}{}:
		h.waiting.Add(-1)
	case <-ctx.Done():
		h.waiting.Add(-1)
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	return h.derive([]byte(password), p.salt, p.passes, p.memoryKiB, p.lanes, tagBytes), nil
}

// phc is a password hash in the PHC string format, as argon2's own tools write it:
// $argon2id$v=19$m=65536,t=3,p=2$<salt>$<tag>, base64 without padding.
type phc struct {
	cost
	salt, tag []byte
}

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memoryKiB, p.passes, p.lanes,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(p.tag))
}

var errHash = errors.New("not an argon2id PHC string within our limits: set the user's password again")

// parsePHC takes only what String writes.
func parsePHC(s string) (phc, error) {
	var p phc
	parts := strings.Split(s, "$")
	if len(parts) != 6 {
		return phc{}, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memoryKiB, &p.passes, &p.lanes); err != nil {
		return phc{}, errHash
	}
	var errSalt, errTag error
	p.salt, errSalt = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	p.tag, errTag = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	sane := errSalt == nil && errTag == nil &&
		p.passes >= 1 && p.passes <= maxPasses && p.lanes >= 1 && p.lanes <= maxLanes &&
		p.memoryKiB >= 8*uint32(p.lanes) && p.memoryKiB <= maxMemoryKiB && // RFC 9106 section 3.1
		len(p.salt) >= 8 && len(p.salt) <= 64 && len(p.tag) >= 16 && len(p.tag) <= 64
	if !sane || p.String() != s {
		return phc{}, errHash
	}
	return p, nil
}

// checkHash keeps a password from being stored where its hash belongs.
func checkHash(hash string) error {
	if _, err := parsePHC(hash); err != nil {
		return failField(ErrInvalid, "password", "the password hash is malformed: make it with Hasher.Hash")
	}
	return nil
}
