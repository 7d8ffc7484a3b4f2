// Package terminal gives containers terminal sessions that outlive everybody
// who watches them, EcoLink included.
//
// A session is a shell on a PTY and an ecolink-keeper process that has the other
// side of it and keeps its output on the disk (package agent/keeper/session).
// This package only starts the two and attaches to them: it keeps no state in
// memory, so that after a restart every session is found again in its folder.
//
// It never copies a session's bytes except for the one viewer who asked, decides
// nothing about who may attach, and does not know containerd: it is given
// something that starts shells. Package agent calls it.
package terminal
