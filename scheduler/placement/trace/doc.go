// Package trace reads lists of nodes and tasks in the format of Alibaba's openb trace
// (cluster-trace-gpu-v2023) and draws the experiment of the FGD paper from them, for
// package policy to place.
//
// It reads what it is given and opens no file. Of a task it takes what it asks for,
// never when it came or went. ecolink-bench calls it.
package trace
