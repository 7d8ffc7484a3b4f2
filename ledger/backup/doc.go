// Package backup puts all of a box's records into one file while the box runs,
// and makes a data folder of such a file again.
//
// A backup is a tar archive compressed with zstd: the database as it was at one
// moment, the ledger's archives that it names, and at the very end a manifest
// with the checksums of both. So a file without its end is no backup, and any
// machine with tar and zstd can open one. It has everything that is secret in the
// box, so whoever stores it must keep it as such.
//
// Nothing is installed that was not read to its end, compared with its checksums
// and whose books were not found to agree. The package never writes over a
// database, never deletes one, and does not know about users' volumes.
//
// The administration socket writes backups; the CLI writes, checks and restores
// them.
package backup
