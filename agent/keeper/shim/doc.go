// Package shim is the receiving end of containerd's contract for logging
// binaries: what the shim passes to a program that it starts for a
// "binary://" URI.
//
// It only takes over arguments and file descriptors; it reads and writes none
// of the container's data. The log and session roles of ecolink-keeper are
// started through it. It follows containerd's core/runtime/v2/logging and the
// shim's NewBinaryCmd.
package shim
