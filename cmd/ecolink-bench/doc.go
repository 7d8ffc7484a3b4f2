// Command ecolink-bench measures EcoLink beside public peers, interleaved in one
// run on one machine:
//
//	ecolink-bench [-json] [-rounds N] SUBJECT
//
// Subjects: launch (from the request to a running instance, beside runc, ctr and
// podman). Each prints a table of figures with its peer, the ratio, the goal and
// whether it is met, and the machine's noise: the spread of the repeated runs.
//
// It starts everything that it needs in network and mount namespaces of its own,
// and removes it. It exits 1 when a goal is missed and 2 when it could not
// measure; a missing peer is a reason for 2 and never for leaving a row out.
package main
