// Package scheduler decides what runs where, until when, and who pays.
//
// It owns the desired state of every instance: launching, extending and
// terminating write that state together with the money it moves, in one
// transaction. A reconcile loop, one worker for each live instance, compares it
// with what the machine reports and closes the difference; nothing else acts on
// the machine. A restart, a crash, a reboot and the watchdog are all the same:
// the worker looks and goes on from what it finds.
//
// It never touches containers itself (the agent does), never parses requests
// and never renders (web does).
package scheduler
