// Package placement answers who gets which GPUs, in which order, and who gives theirs up.
// It is pure: no clock, no I/O, no memory; the same question has the same answer. The
// scheduler calls it inside a transaction, and again to say why somebody waits.
//
// It knows nothing of money, containers or how GPUs become free: runs that end are a
// length of time to it.
package placement
