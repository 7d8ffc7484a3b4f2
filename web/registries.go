package web

import (
	"errors"
	"net/http"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// MustOwnRegistries refuses callers who may not see, store and remove the account's
// log-ins for registries: all but its owners.
func MustOwnRegistries(tx *store.Tx, c Caller) error {
	role, err := identity.RoleIn(tx, c.Account, c.User)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	if role != identity.RoleOwner {
		return Fail(http.StatusForbidden, "forbidden", "", "only owners of the account see, store and remove its log-ins for registries: ask one of them")
	}
	return nil
}
