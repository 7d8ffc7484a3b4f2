// Package health says which GPUs are fit for work: what an Xid code means, what
// the driver's counters mean, and when a GPU is cordoned and may come back.
//
// It is pure: plain values in, plain values out. It never asks the driver,
// never reads a clock, keeps nothing between calls and imports nothing of ours.
// Package nvml reads the Snapshot that it judges; whoever keeps the records of
// GPUs (scheduler) stores a Status for each, feeds it findings and carries out
// its effects.
package health
