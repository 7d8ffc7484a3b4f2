package lease

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// What the database knows of leases and of the log.

// logState says which log belongs to the database, and how much of it the journal
// has.
type logState struct {
	Epoch  logID `json:"epoch"`  // made by every Open; the log's name
	Boot   logID `json:"boot"`   // the kernel's, that the epoch began in
	Folded int64 `json:"folded"` // the number of the last record that is in the journal
	// Previous is the epoch before, whose log was folded up to a number.
	Previous       logID      `json:"previous"`
	PreviousFolded int64      `json:"previous_folded"`
	Stuck          StuckTotal `json:"stuck"`
}

// logID is a random name.
type logID [16]byte

func newID() (id logID) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

func (id logID) String() string               { return hex.EncodeToString(id[:]) }
func (id logID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
func (id *logID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return fmt.Errorf("log id %q: want %d digits", b, 2*len(id))
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// granted is an account's lease. It is there as long as the lease is.
type granted struct {
	ID   int64         `json:"id"` // never used again
	Hold ledger.HoldID `json:"hold"`
}

// Unbilled is what requests of an account cost beyond all the money it had.
// Nobody is charged for it.
type Unbilled struct {
	Amount   ledger.MicroUSD `json:"amount"`
	Requests int64           `json:"requests"`
	Last     time.Time       `json:"last"`
	// LastRequest is the request id of the newest of them.
	LastRequest string `json:"last_request"`
}

const stateKey = "log"

var (
	states   = store.NewStringCollection[string, logState]("ledger.lease-log")
	grants   = store.NewIntCollection[identity.AccountID, granted]("ledger.leases")
	stuck    = store.NewIntCollection[int64, stuckRecord]("ledger.lease-stuck") // by number
	unbilled = store.NewIntCollection[identity.AccountID, Unbilled]("ledger.lease-unbilled")
)

// UnbilledOf reads what an account's requests have cost beyond its money so far.
func UnbilledOf(tx *store.Tx, a identity.AccountID) (Unbilled, error) {
	u, _, err := unbilled.Get(tx, a)
	return u, err
}

const resourcePrefix = "api-lease/"

// resourceOf is what a lease's hold is for.
func resourceOf(a identity.AccountID) string {
	return resourcePrefix + strconv.FormatInt(int64(a), 10)
}

// Owner answers ledger.Reconcile for the holds of leases: they live as long as
// their lease does.
func Owner(tx *store.Tx, resource string) (ledger.Owner, error) {
	a, ok := accountOf(resource)
	if !ok {
		return ledger.OwnerUnknown, nil
	}
	_, live, err := grants.Get(tx, a)
	if err != nil {
		return ledger.OwnerUnknown, err
	}
	if !live {
		return ledger.OwnerGone, nil
	}
	return ledger.OwnerLives, nil
}

func accountOf(resource string) (identity.AccountID, bool) {
	if len(resource) <= len(resourcePrefix) || resource[:len(resourcePrefix)] != resourcePrefix {
		return 0, false
	}
	n, err := strconv.ParseInt(resource[len(resourcePrefix):], 10, 64)
	return identity.AccountID(n), err == nil
}
