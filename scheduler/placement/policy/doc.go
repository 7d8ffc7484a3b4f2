// Package policy chooses the node and the GPUs for a task, one task at a time, in
// ways that can be compared: the known ones (random, best fit, dot product, GPU
// packing, GPU clustering, fragmentation gradient descent) and our own, Worth, all
// on one interface and behind one filter.
//
// It is pure: no clock, no I/O, nothing but the standard library. It never places a
// task where there is no room, and refuses one only when no node has room. It knows
// nothing of queues, priorities and money.
//
// ecolink-bench replays a trace with it; package trace reads one.
package policy
