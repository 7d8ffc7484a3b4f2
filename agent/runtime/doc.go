// Package runtime runs containers on containerd: it finds and pulls images,
// brings a container to run from whatever is there of it, and says what is.
//
// Everything that must survive this process belongs to others: containers to
// containerd and its shims, a container's output and its terminals to
// ecolink-keeper processes that the shims start. So this package keeps no state
// besides caches of image configurations and of registries' answers; after a
// restart it finds everything again by asking containerd, in a namespace of its own.
//
// It never decides what should run, knows nothing of GPUs or networks (it is
// given a network namespace and a function that edits the OCI spec), and never
// touches what other programs keep in the same containerd.
//
// # Images
//
// What a name means is found out at its registry each time that somebody wants to
// launch it (Resolve), with the log-in that they have for it: an image that is here
// is no permission to use it. From then on the digest holds. Each image has a record
// in containerd under repository@digest, which keeps its content, and one under its
// tag, which says what the tag meant last. While a registry does not answer, that
// is good enough for what it gives to anybody (publicLabel), and for nothing else.
// Images from files (importedLabel) are for everybody. What keeps layers of private
// images from those who know their digests stands in access.go.
//
// A pull holds a lease of containerd's that outlives it when it breaks off, so that
// the next goes on from the bytes that are here; containerd collects the rest after
// a day. Images that nobody needs are removed by Prune: never one that a container
// runs from, that is being fetched, or that the caller names.
//
// # Limits and powers
//
// A container has the capabilities and the system calls that Docker gives by
// default, and its Resources: a weight of the CPUs, a limit of memory without swap,
// a limit of processes, a /dev/shm of its size. What it writes outside of its mounts
// lies on a file system of its own (Container.Layer), so that it fills that and not
// the host. How its start command ended is read from a file that process 1 writes
// inside, and is the user's word.
//
// Root inside is root outside, without those powers: there are no user namespaces.
// They would need the image's layers, the drives and the devices to be owned anew
// inside (ID-mapped mounts), which containerd's overlay snapshotter can do from 2.0
// on and runc from 1.2, and the distributions of today have older ones.
//
// Package agent composes it with devices and networks; agent/terminal starts its
// shells through it.
package runtime
