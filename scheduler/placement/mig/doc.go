// Package mig answers where a MIG slice goes: on which GPU, at which place, and
// which unused slices give way to it; whether a layout that an operator wrote
// fits; and which of the slices that a driver has are ours.
//
// It is pure: no clock, no I/O, nothing remembered; the same question has the
// same answer. It has no table of GPUs: which profiles there are and where each
// can be is what the driver reported, and comes in as a Model. It knows nothing
// of queues, accounts or prices, and changes nothing. The scheduler calls it
// inside a transaction.
package mig
