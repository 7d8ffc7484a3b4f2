// Command demo is `make demo`: it starts EcoLink on this machine, with the
// embedded containerd and, where there is no NVIDIA driver, simulated GPUs, and
// walks through what it is for by the commands that a person would type. Each
// step is checked; the first that is wrong ends the demonstration with status 1.
//
// Afterwards EcoLink stays up until Ctrl-C, with the console's address and log-in
// printed; with DEMO_EXIT=1 it ends at once. Either way it takes away all that it
// made, and looks whether that is true.
package main
