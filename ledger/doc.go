// Package ledger is EcoLink's money: an append-only journal of double-entry
// transfers, the balances that follow from it, and holds.
//
// It places, extends, settles and voids holds; takes top-ups, bonuses and
// corrections; and can prove at any time that the books agree. It never decides
// what a thing costs or who may spend (the scheduler and the API do), never
// changes or deletes a row, and never calls anything outside the transaction
// that it is given.
//
// Callers pass a *store.Tx, so that money and the record that it pays for are
// written together or not at all. The scheduler, the gateway and the console
// call it.
package ledger
