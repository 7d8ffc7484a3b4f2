// Package device gives a container exactly its GPUs, and no other container's,
// by CDI (the Container Device Interface): files that say which device nodes,
// mounts and environment a named device brings, applied to the OCI spec that the
// container is made from.
//
// Real GPUs are described once, when EcoLink starts, by NVIDIA's own generator.
// Simulated ones get a file for each owner, with a description that a person in
// the container can read instead of nvidia-smi.
//
// It keeps its files in a directory of its own and never reads or writes
// /etc/cdi or /var/run/cdi, where other programs' devices are. It never decides
// who gets which GPU, never starts a container and asks NVML nothing: it is
// given the inventory.
//
// agent/runtime calls Prepare and Inject when it makes a container and Release
// when the container is gone; the reconcile loop compares Owners with what
// should be there.
package device
