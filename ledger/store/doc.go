// Package store is EcoLink's one database file: bbolt with typed collections,
// one write path and a change feed.
//
// It is for records that must outlive the process: money, identities, desired
// state. It knows nothing of what the records mean, never keeps a copy of them
// in memory, and never tells a caller of a write that a power cut could undo:
// neither the writer, nor a reader who came between the write and its flush.
//
// The packages under ledger and the scheduler call it. Several packages write
// in one transaction by passing the same *Tx along: that is how a launch writes
// its hold, its instance and its queue entry together or not at all.
package store
