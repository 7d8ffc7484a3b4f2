// Package userns makes user namespaces, in which root is an unprivileged user of
// the host, and mounts through which their users own the files that they should.
//
// # Why by ourselves
//
// containerd's overlayfs snapshotter knows ID-mapped mounts from 2.0 on and runc
// from 1.2, and the distributions of today have older ones. But the kernel needs
// neither: an ID-mapped copy of an image's layer is a folder like any other, and
// runc since 1.1 starts containers in a user namespace that is there already.
//
// # Ids
//
// Each namespace has a range of 65536 ids of the host to itself (Range), so that not
// even two containers have a user in common. On the disk there is no trace of it:
// every file system that a container writes to is mounted for it so that its root
// writes files of uid 0. So a container may have another range each time it starts,
// a drive is the same for all who use it, and the feature may be switched off.
//
// A container's own layer needs one id more. The kernel makes a few files of an
// overlay (its work folder, and each file before it gets its owner) as who mounted
// it, and that is the host's root, who is in no range: Mapping.Layer has him as
// LayerRoot, a user that no container has.
//
// It keeps no state: what is mounted is. Package network makes a namespace with
// each network, which it owns, and gives the ranges out, so that not even two boxes on
// one machine use the same, but for what [TrialRange] is for, which is nobody's;
// package runtime maps what a container is made of.
package userns
