// Command ecolink-sftp serves files over its standard input and output with the
// SFTP protocol. EcoLink's SSH server runs it inside a container, as root there, so
// that scp and sftp see what the container sees, its drives included, and nothing
// else.
//
// It is a static binary of its own, embedded into ecolink by package agent/keeper
// and mounted into every container: in ecolink-keeper the protocol's library would
// add half to the size of what is process 1 of every container and the host of
// every terminal. People have no reason to call it.
package main
