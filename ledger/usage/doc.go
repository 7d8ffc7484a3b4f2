// Package usage adds up what accounts spend: by hour, day and month, and in each
// by product, model, API key, source tag and resource.
//
// The sums are made from the journal, behind it: Run folds its rows in small
// steps, and keeps the number of the last row beside the sums, in the same
// transaction, so that each row is counted once whatever happens. What has not
// been folded yet is added when somebody reads, so that every answer is exact at
// its moment. Nothing here is money: all of it can be made anew (Rebuild) and
// checked (Check) from the journal, which this package only reads.
//
// The API, the console and `ecolink ledger verify` call it.
package usage
