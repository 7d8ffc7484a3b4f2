// Package placement answers which GPUs a request gets. It is pure: no clock, no
// I/O, no memory; the same question has the same answer. The scheduler calls it
// inside a transaction.
package placement
