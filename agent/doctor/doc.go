// Package doctor looks at a host for what EcoLink may have left on it, and for
// what EcoLink needs and lacks: mounts, loop devices, network namespaces, cables,
// processes, control groups and folders whose instance is not there any more.
//
// It reads files, /proc and /sys, and asks the program containerd for its version.
// It takes no lock, asks no daemon and changes nothing, so that it works beside a
// running EcoLink and without one, and says the same in both cases. Who should be
// there is told to it.
//
// Command ecolink calls it for `ecolink doctor`. What is found is put right by
// those who made it: the agent's Box, the pool of volumes, or EcoLink's start. Only
// uploads in a volume that is mounted are removed here, by RemoveUploads.
package doctor
