package console

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"ecolink/web"
)

// problems are what is wrong with a form: by field, and under "" what no field is
// to blame for.
type problems map[string]string

// problemsOf sorts a failure to its field, if the form has that.
func problemsOf(f *web.Failure, fields ...string) problems {
	if f.Param != nil && slices.Contains(fields, *f.Param) && f.Status < 500 {
		return problems{*f.Param: f.Message}
	}
	return problems{"": f.Message}
}

func (p problems) general() bool { return p[""] != "" }

// newNonce tells apart two forms that are filled in alike.
func newNonce() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// idempotencyKey is the same for the same form sent twice, as by a second press
// of the button, and another when anything in it is another.
func idempotencyKey(nonce string, values ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{nonce}, values...), "\x00")))
	return "console-" + hex.EncodeToString(sum[:16])
}
