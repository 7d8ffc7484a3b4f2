// Package daemon runs a containerd of EcoLink's own, for development and for
// machines without systemd (--containerd=embedded).
//
// Its root, state and socket are its own, so that another containerd or a Docker
// on the machine is not touched. It is a child process that is watched and
// started again when it dies. When EcoLink itself is killed, containerd goes on
// and the next EcoLink takes it over; when EcoLink ends in order, so does
// containerd. Containers outlive both.
//
// What containerd says is in containerd.log of its data folder, and the older part
// in containerd.log.1. Both are kept small while EcoLink runs.
//
// It never talks to containerd beyond asking whether it answers. cmd calls it.
package daemon
