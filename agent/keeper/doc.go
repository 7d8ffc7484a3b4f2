// Package keeper carries the ecolink-keeper binary and puts it on the disk.
//
// ecolink-keeper is the small static program that goes on while EcoLink itself
// is stopped, upgraded or killed. It has three roles, one subpackage each:
// process 1 of a container (initproc), the writer of a container's log
// (logfile) and the host of a terminal session (session). The latter two are
// started by containerd's shim; package shim holds what the shim hands them.
//
// Beside it lies ecolink-sftp, which serves files inside containers.
//
// This package never runs a binary and never removes one: a container that
// was started by an older EcoLink still executes the older file.
//
// The agent's runtime calls Install once at start. cmd/ecolink-keeper must not
// import this package, or the binary would have to contain itself; it imports
// the subpackages.
package keeper
