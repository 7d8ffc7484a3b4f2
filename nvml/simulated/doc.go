// Package simulated is a machine with GPUs that do not exist: go-nvml's own mock
// servers, completed until they answer as a DGX does.
//
// It is for trying and testing EcoLink where there is no NVIDIA driver. It
// answers through go-nvml's interface, so whatever reads real GPUs reads these
// by the same code. The same layout gives the same UUIDs and PCI addresses every
// time, since durable records name GPUs by them.
//
// It never loads NVIDIA's library, never opens a device and never computes
// anything. Package nvml calls it, and only when the operator asked for it; tests
// make a Faulty, which is the same machine with GPUs and a driver that they can
// break while work runs.
package simulated
