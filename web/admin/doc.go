// Package admin is what only the operator of the box does, as root and on the box
// itself: set it up, add credit, set prices, check the books.
//
// It checks nobody's identity: who can reach the handler may do all of it. cmd
// serves it on a socket that only root can open, and calls it directly when
// EcoLink does not run. It is never part of the public server. Every change is
// recorded in the audit log in the transaction that makes it.
package admin
