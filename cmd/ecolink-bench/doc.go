// Command ecolink-bench measures EcoLink beside public peers, interleaved in one
// run on one machine:
//
//	ecolink-bench [flags] SUBJECT
//
// Subjects:
//
//   - launch: from the request to a running instance, beside runc, ctr and podman.
//
//   - ledger: durable charges per second and their latencies, from one caller to
//     2048, spread over accounts and on one, beside the disk's own fdatasync
//     rate, plain bbolt and PostgreSQL; then what a large journal costs: to open,
//     to page through, to break down, on the disk and in memory.
//
//   - scheduler: GPUs that each placement policy leaves unallocated on the openb
//     trace, the known ones beside the figures of the FGD paper and ours beside FGD;
//     then how long a decision of ours takes.
//
//   - telemetry: the processor time of sampling eight simulated GPUs of seven
//     slices with a hundred processes once a second, with its history on the disk.
//
//   - terminal: keystroke echo, alone and under a flood in a second session, and a
//     long output, into a container over the API's WebSocket, beside a PTY without
//     any network and beside shellinabox, both on a local shell; then what an idle
//     session takes of memory, and whether a killed socket or server loses a byte.
//
// Each prints a table of figures with its peer, the ratio, the goal and whether
// it is met, and the machine's noise: the spread of the repeated runs. A figure
// with a limit of its own has the peer "goal".
//
// It starts everything that it needs, and removes it: containers in network and
// mount namespaces of its own (launch, which needs root), the database servers
// and files in a folder of its own on the disk that -dir names (ledger).
//
// It exits 1 when a goal is missed and 2 when it could not measure; a missing
// peer is a reason for 2 and never for leaving a row out. What was measured
// until then is printed all the same.
package main
