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
// # User namespaces
//
// With Container.User, root inside is an unprivileged user outside, with ids that no
// other container has, and those powers end at the container's own namespaces. So
// whoever breaks out of one in some way finds that he is nobody. What it takes from
// him is device nodes (mknod is refused) and users above 65535 (files that have one are
// nobody's, and can't be written to). A setuid program has its effect there, as in
// Docker; without a user namespace it has none (no_new_privs).
//
// Neither containerd nor runc need know ID-mapped mounts (user.go): for as long as it
// takes to create the container, each layer of its image, its own layer and its
// volumes are mounted once more, mapped, in RunDir/maps, and the overlay and the
// container's mounts are made from those. That takes a millisecond. On the disk
// everything has the owners that it has inside, so that nothing is bound to a range.
// TryUser finds out, with a container of its own, whether a machine can do that: it
// takes Linux 5.19 and runc 1.1.
//
// Package agent composes it with devices and networks; agent/terminal starts its
// shells through it.
package runtime
