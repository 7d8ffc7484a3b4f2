// Package agent is the hands of EcoLink: it makes this machine agree with what
// the scheduler wants, and reports facts.
//
// It composes containers (runtime), GPUs (device) and networks (network) into
// workloads, each in a user namespace (userns) where the machine can. It knows
// nothing of money, accounts or HTTP, decides nothing, and answers from what
// containerd and the kernel say, never from memory. The scheduler calls it.
package agent
