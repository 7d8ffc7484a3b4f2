// Package books watches over the ledger of a running box: before anything else
// runs it proves that the newest rows and balances agree, as they must after any
// crash, and while the box runs it proves the rest in the background.
//
// Check comes first of all, and its error must stop the start: nobody may be
// served from books that do not agree. Keep runs beside the box until it ends. It
// moves the checkpoint on, so that the next Check is quick, and once a day, at
// night, goes through all of the books, as `ecolink ledger verify` does.
//
// It never changes a row or a balance, and never decides what is right: it says
// where the books disagree, and the operator restores a backup. `ecolink serve`
// calls it.
package books
