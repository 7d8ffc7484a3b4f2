// Package torture holds the crash tests of the ledger and of the store below it:
// processes that are killed, power that is cut in the middle of a commit, pages
// that were damaged or never written, disks that are full, read-only or failing.
//
// It has no code of its own, only tests, which see the two packages as their
// callers do. Nobody imports it. `go test` runs a short form of each test, and
// `make torture` the long one, with its counts. They mount file systems, so they
// need root; each mount lives in a mount namespace and on a nameless file in
// memory, so nothing is left behind however a test ends.
package torture
