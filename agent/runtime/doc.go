// Package runtime runs containers on containerd: it finds and pulls images,
// brings a container to run from whatever is there of it, and says what is.
//
// Everything that must survive this process belongs to others: containers to
// containerd and its shims, a container's output and its terminals to
// ecolink-keeper processes that the shims start. So this package keeps no state
// besides a cache of image configurations; after a restart it finds everything
// again by asking containerd, in a namespace of its own.
//
// It never decides what should run, knows nothing of GPUs or networks (it is
// given a network namespace and a function that edits the OCI spec), and never
// touches what other programs keep in the same containerd.
//
// Package agent composes it with devices and networks; agent/terminal starts its
// shells through it.
package runtime
