package ledger

import (
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Product is a thing that money is spent on, as far as an empty wallet treats it
// differently.
type Product string

// The products.
const (
	ProductAPI       Product = "api"
	ProductInstance  Product = "gpu-instance"
	ProductCluster   Product = "gpu-cluster"
	ProductInference Product = "inference-instance"
	ProductStorage   Product = "storage"
)

// Consequence is what an account's standing means for one of its resources.
type Consequence string

// The consequences.
const (
	GoOn          Consequence = "go on"
	Refuse        Consequence = "refuse"          // 402 until money comes
	EndNow        Consequence = "end now"         // reason credit_depleted
	EndAtBoundary Consequence = "end at boundary" // of its 24 hours
	Suspend       Consequence = "suspend"         // kept, not to be used; comes back with money
)

// depletion is the one place that says what happens at $0: the billing table of
// the FAQ. Everything else asks it.
var depletion = map[Product]Consequence{
	ProductAPI:       Refuse,
	ProductInstance:  EndNow,
	ProductCluster:   EndNow,
	ProductInference: EndAtBoundary,
	ProductStorage:   Suspend,
}

// Standing is whether an account has money: available and held together.
type Standing struct {
	Depleted bool      `json:"depleted"`
	Since    time.Time `json:"since"`
}

// Means is what the standing means for a product.
func (s Standing) Means(p Product) Consequence {
	if !s.Depleted {
		return GoOn
	}
	return depletion[p]
}

// StandingBucket changes when an account's money has come to its end, and when
// there is some again: whoever runs or keeps something for accounts watches it,
// and asks StandingOf what it means. ChangedAccount tells whose it is.
const StandingBucket = "ledger.standing"

var standings = store.NewIntCollection[identity.AccountID, Standing](StandingBucket)

// StandingOf reads an account's standing. One that never had money is depleted.
func StandingOf(tx *store.Tx, a identity.AccountID) (Standing, error) {
	s, ok, err := standings.Get(tx, a)
	if err == nil && !ok {
		s.Depleted = true
	}
	return s, err
}

// Depleted lists the accounts that had money and have none, at most limit of them.
func Depleted(tx *store.Tx, limit int) (out []identity.AccountID, err error) {
	for rec, err := range standings.All(tx) {
		if err != nil {
			return nil, err
		}
		if rec.Value.Depleted {
			if out = append(out, rec.Key); len(out) == limit {
				break
			}
		}
	}
	return out, nil
}

// judge follows a wallet's last row: did it end the account's money, or bring the
// first of it? It is called for every row.
func (b *batch) judge(tx *store.Tx, a identity.AccountID, w *touched, at time.Time) error {
	depleted := w.available+w.held <= 0
	if depleted == w.depleted && w.rows > 1 {
		return nil
	}
	w.depleted = depleted
	return standings.Put(tx, a, Standing{Depleted: depleted, Since: at})
}
