package identity

import (
	"strings"
	"testing"

	"ecolink/ledger/store"
)

func TestNoSecretIsInTheFile(t *testing.T) {
	b := newBox(t)
	_, secret := b.key("laptop")
	s, token := b.session(b.owner, start)
	var setupToken string
	b.update(func(tx *store.Tx) (err error) { setupToken, err = CreateSetupToken(tx, start); return err })
	var file strings.Builder
	_, err := b.db.Backup(&file)
	mustNil(t, err)
	for what, v := range map[string]string{"key": secret, "session": token, "CSRF token": s.CSRFToken(), "set-up token": setupToken} {
		if strings.Contains(file.String(), v) {
			t.Errorf("the database holds the %s in clear", what)
		}
	}
}
