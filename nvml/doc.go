// Package nvml says which GPUs this machine has, by NVIDIA's management library
// (NVML, libnvidia-ml.so.1) or, when the operator asks for it, by a simulation
// that answers through the same calls.
//
// It reports facts, and changes nothing but MIG modes and slices when its Partitioner
// is told to. It knows nothing of accounts, money,
// containers or placement, keeps no inventory of its own (every call asks the
// driver again), and never fails because a machine has no driver or because one
// GPU of several is broken: it says so in what it returns.
//
// cmd opens one Library per process; the scheduler and the agent read its
// Inventory, package telemetry its Samples once a second. Its Facts and the
// events of a Watcher are for package health, which judges them.
package nvml
