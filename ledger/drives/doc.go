// Package drives has the records of cloud drives and shared filesystems: what
// there is to be, whose it is, who uses it and how far the machine has come.
//
// A record says what is wanted (a size, snapshots, to be deleted) and what has
// been observed (the size that was made). Work tells the one thing that is to be
// done next, and Done or GiveUp, in one transaction with the money, what came of
// it. Who may attach a drive is decided here: a drive has one user, a shared
// filesystem many. Storage is billed by ledger/metering, in the same transaction
// as each change: from the moment that it can be used until its deletion is asked
// for. An account without money has its volumes suspended: they are kept, and
// can't be attached; what is attached stays so until it is let go. The record of a
// deleted one is forgotten after a while: bills are made of the ledger's rows.
//
// It never touches an image or a mount (the agent does), never acts by itself
// (the scheduler's volume workers do), and knows no HTTP. A user of a drive is a
// name to it, such as "gpu-instance/7". The scheduler calls it, and nobody else.
//
// A GB is 10⁹ bytes, as disks are sold and as it is billed. What the file system
// in a volume needs for itself comes out of that.
package drives
