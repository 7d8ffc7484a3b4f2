// Package lease spends an account's money from memory, so that a metered request
// waits for no disk: neither before its first byte nor before its last.
//
// A lease is an open hold ("api-lease/<account>") in which a small block of the
// account's money lies, drawn ahead durably and extended in the background when
// half of it is used. Reserve sets a request's estimate aside in the lease, in
// memory. Charge writes what it really cost to a log with write(2) and returns.
// Within milliseconds a group of such records becomes rows of the journal, in one
// transaction with the number of the last of them. Leases that nobody uses are
// given back.
//
// It never decides what a request costs, and never speaks HTTP: the /v1 gateway
// does both, and is who calls it.
//
// # What holds after a crash
//
//   - Death of the process (SIGKILL, a panic): nothing that Charge returned for is
//     lost, nothing is charged twice. The log is in the kernel's memory; Open reads
//     what the journal does not have yet, charges it, and gives back what is left of
//     the leases.
//   - Power cut, or a crash of the kernel: records that were not folded yet may be
//     lost. They are those of the last FoldDelay and one commit: some milliseconds.
//     When the database falls behind, nothing new is admitted while more than
//     MaxBacklog records wait, or one waits longer than MaxLag: the bound is
//     MaxBacklog records and the requests that were in flight, or MaxLag and the
//     longest of those. In money, an account's requests wait while MaxBlock of its
//     charges or more would be lost: the bound is MaxBlock for an account, and what
//     its requests in flight cost. The loss is always in the account's
//     favour: the money is still in the hold, and is refunded from it.
//   - At every moment available + held + charged = put in. What is drawn ahead is
//     held, to the micro-dollar, whatever has been spent of it in memory.
//     ledger.Verify proves that, and Audit here says how much of what is held lies
//     in leases, and how much of that the log will charge.
//
// # Exactly once
//
// Records have numbers that only rise, through all segments and restarts. The
// database has the number of the last one that was folded, written in the same
// transaction as the rows: a record is charged if its number is above it. So rows
// need no idempotency keys, and a position in a file, which could mean something
// else in another file, is nowhere.
//
// Every Open begins an epoch: it writes a random id into the database, which is in
// the names of the log's files and in the checksums of its records. Only the log of
// the epoch that the database is in is charged, each record once, to the account's
// lease that it names (leases have numbers that are never used again). So a log of
// another database, or one that a restored backup has left behind, charges nobody:
// it is moved into the folder "aside", where the newest 64 files are kept, and
// reported. A file is removed only when all that can be read of it is known to be
// folded. If a backup is restored that was made in the log's own epoch, and the log
// is still there, then what the log has beyond the backup is charged. That is
// right: these requests were answered, and the restored journal does not have them.
//
// A record whose lease the database does not have, or can't read, charges nobody
// and holds up nobody: it is kept as a stuck charge, in the transaction that would
// have charged it, for the operator to look into (StuckCharges). The account's
// requests are refused while its lease can't be read; others go on.
//
// The database also has the boot of the kernel that the epoch began in. In the same
// boot only the end of the newest file can be torn, by the death of the process
// while it was written; nobody was told of it, and it is dropped. Anything else is
// damage, and Open refuses with a *DamagedError rather than lose a charge in
// silence. After another boot any part of a file may be missing (pages reach a disk
// in any order), its beginning too. Records that are whole are charged, wherever
// they are; Recovered says that there were gaps.
//
// # Money
//
// Reserve refuses with *ledger.InsufficientError when the lease has no room and the
// wallet nothing to fill it with. Near $0 blocks get smaller, so that what is left
// stays available for other things, down to the last micro-dollar: a request is
// refused exactly when its estimate is more than what is available and in the
// lease, less what others have reserved who are in flight or came before it. For a
// request that is refused nothing is drawn. When estimates were much higher than
// costs, and a lease has had more than twice of what it draws ahead for a second in
// which no request needed it, then what is beyond the once is given back.
//
// Requests of an account that can't be served at once are served in the order in
// which they came, so that a large estimate gets its turn.
//
// A request that costs nothing, because its model is free or because its cost
// rounds down to less than a micro-dollar, has no row: the journal has none of $0,
// so neither the journal nor the monthly usage counts its tokens. What is cut off by
// rounding is not carried over to the next request here: whoever wants it charged
// adds it to the next amount.
//
// A request that costs more than its estimate is charged in full as far as the
// lease, and then the balance, have the money: the balance never goes below zero.
// What is beyond is not charged to anybody, stays bounded by what the requests in
// flight cost beyond their estimates, and is counted in Unbilled for the operator.
//
// A key's monthly cap counts what was spent, what is in the log, and the estimates
// of requests in flight. It is exceeded by no more than what the requests in
// flight cost beyond their estimates.
//
// If an operator's correction takes money out of a lease's hold, the lease learns
// of it with its next draw or fold; what was spent meanwhile beyond the rest may
// go unbilled, at most the block.
//
// # When the disk is full
//
// If the log can't be written, Charge waits until the record is in the database
// itself: slower, as safe. If that fails too it returns *UnsureError, the record
// is kept in memory and tried again, and Reserve refuses until it is on disk.
package lease
