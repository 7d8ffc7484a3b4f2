// Package scheduler decides what runs where, until when, and who pays.
//
// It owns the desired state of every instance: launching, extending and
// terminating write that state together with the money it moves, in one
// transaction. A reconcile loop, one worker for each live instance, compares it
// with what the machine reports and closes the difference; nothing else acts on
// the machine. A restart, a crash, a reboot and the watchdog are all the same:
// the worker looks and goes on from what it finds.
//
// Who waits for GPUs gets them in the transaction that frees them, by the plan of
// package placement, which may take those of a lower class: such an instance is stopped
// and goes on later, on its files.
//
// Drives and shared filesystems are the same: requests write what is wanted, and a
// worker for each one that there is something to do for has the machine make it so.
// A launch attaches them, and they are let go when nothing of the instance is left
// on the machine, in those very transactions. Accounts take turns at the machine.
//
// A billing worker beside it does what time and empty wallets ask for: it settles
// and renews 24-hour cycles, charges days of storage, ends instances and suspends
// storage of accounts that have nothing any more, brings storage back, releases
// holds that nobody owns, and forgets the records of drives that were deleted long
// ago. What is owed and what $0 means is decided in the ledger.
//
// It never touches containers itself (the agent does), never parses requests
// and never renders (web does).
package scheduler
