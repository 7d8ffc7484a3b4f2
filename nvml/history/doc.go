// Package history keeps what devices measured, in one file of fixed size for each:
// a point for each second of the last hour, and for each minute of the last 30
// days the mean and the greatest value of each figure.
//
// A point's place in the file follows from its time alone (the second modulo
// 3600, the minute modulo 43200), and each record says which time it is of. So
// there is nothing to find again after a crash, a point that was not taken is a
// gap, and a clock that jumps cannot bring points out of order. A second that
// comes again replaces what was there for it; a minute that comes again is made
// of those of its seconds that are still there. Points in the future of a clock
// that went back stay until it comes to them, or to another time of their place.
//
// Each record has a checksum; one that a crash has torn, or that somebody has
// written over, is a gap. A file whose beginning is damaged is set aside and
// begun anew. Records are not synced: a power cut may take the last half minute.
//
// Values are single-precision floats, of seven digits. The package knows figures
// by number only and nothing of GPUs; it takes one process for each folder.
// Package telemetry appends to it and reads it.
package history
