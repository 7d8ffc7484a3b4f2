// Package price is the operator's price list: what each thing costs, and from
// when on.
//
// It keeps for every Item the prices that were, the one in force and those that
// are announced, answers which one held at an instant, and works out what a
// quantity costs with the ledger's one rounding rule. It never moves money, never
// changes a price that has been in force, and never touches what somebody has
// bought already: whoever sells a thing notes its price with the sale, as the
// scheduler does at launch.
//
// Callers pass a *store.Tx, so that a sale and the price that it is made at are of
// one moment. The operator's commands set prices; the scheduler, the console and
// the API read them.
package price
