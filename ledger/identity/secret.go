package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

const (
	keyPrefix       = "eco_"
	keyRandomChars  = 40 // of 62 kinds: 238 bits
	keyShownChars   = len(keyPrefix) + 6
	tokenBytes      = 32
	base62          = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	base62FairBytes = 256 / len(base62) * len(base62) // bytes from here on would favour the first letters
)

// newKeySecret makes an API key. crypto/rand never fails: it ends the process instead.
func newKeySecret() string {
	out := append(make([]byte, 0, len(keyPrefix)+keyRandomChars), keyPrefix...)
	var buf [64]byte
	for {
		rand.Read(buf[:])
		for _, b := range buf {
			if int(b) >= base62FairBytes {
				continue
			}
			out = append(out, base62[int(b)%len(base62)])
			if len(out) == cap(out) {
				return string(out)
			}
		}
	}
}

// LooksLikeKey tells whether s has the form of an API key. It spares the look-up
// of anything else, and finds keys in logs and configuration that should not be there.
func LooksLikeKey(s string) bool {
	random, ok := strings.CutPrefix(s, keyPrefix)
	if !ok || len(random) != keyRandomChars {
		return false
	}
	for _, c := range []byte(random) {
		if strings.IndexByte(base62, c) < 0 {
			return false
		}
	}
	return true
}

func newToken() string {
	var b [tokenBytes]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// looksLikeToken is strict: one token has one spelling.
func looksLikeToken(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == tokenBytes && !strings.ContainsAny(s, "\r\n")
}

// digest is how a random secret is stored and looked up. Looking up by it leaks
// no useful timing: who does not know the secret can't choose the digest.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
