// Package volume keeps drives and shared filesystems on this host: each is an
// ext4 image of a fixed size, mounted through a loop device for whoever uses it.
//
// # The promise about space
//
// An image owns its whole size on the host's disk from the beginning
// (fallocate), so that what was sold can be written. Nothing is promised that
// would leave less than Config.Reserve on the host. A discard would punch holes
// into an image and give its space to others, and so would the kernel's zeroing of
// blocks; volumes are therefore mounted without both (mountOptions, tune), and what
// trims one reserves it anew, step by step.
// Of a volume's size ext4 takes its own tables and journal, about 2 % of a large
// one; nothing is kept back for root.
//
// # Who uses what
//
// There are no records. A volume with the image Dir/<id>/image is mounted once
// for each user, at RunDir/<id>/<user>: the kernel's table of mounts is the list
// of users. It outlives EcoLink, and a reboot clears it. The loop device is
// detached by the kernel with its last mount. It holds the image's open file,
// and with that a lock (flock) on the image, so no second EcoLink, wherever its
// RunDir is, can touch an image that is mounted.
//
// # After a crash
//
// Everything is made aside, under a name that begins with a dot, synced, and
// renamed. Open removes such leftovers. An image is checked (e2fsck -p, which
// replays the journal) before its first mount; damage that this can't mend is a
// CorruptError and the image is never mounted.
//
// The package knows nothing of accounts, names or prices; whether a volume may
// be used by several at once is the scheduler's to decide. agent.Box calls it.
package volume
