// Package statement writes an account's statement: what it had, every row of the
// journal between two instants, in the order of the journal, what it had then, and
// the totals by type. What it had, and what the rows changed, is what it had then,
// to the millionth.
//
// A statement may have millions of rows. It is read twice along the account's
// chain, in short transactions: once from its newest row to its oldest, for the
// balances and totals, and then from the oldest on, a few hundred rows at a time.
// That is sound because rows never change. It never holds all of them in memory,
// nor a transaction open while somebody slow is reading.
//
// The API, the console and through the API the command line call it.
package statement
