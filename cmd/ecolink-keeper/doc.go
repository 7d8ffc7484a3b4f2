// Command ecolink-keeper is the part of EcoLink that goes on while EcoLink is
// stopped, upgraded or killed. It has four roles:
//
//	ecolink-keeper init [--] [COMMAND ARG...]
//	    process 1 of a container (package agent/keeper/initproc)
//	ecolink-keeper role log dir DIR max_bytes N files N
//	    the writer of a container's log (package agent/keeper/logfile)
//	ecolink-keeper role session dir DIR scrollback_bytes N idle_seconds N
//	    the host of a terminal (package agent/keeper/session)
//	ecolink-keeper shell PROGRAM [ARG...]
//	    the beginning of a terminal's shell, in the container (same package)
//
// The log's and the terminal's are started by containerd's shim for a "binary://" URI, which
// passes the pairs in random order and the pipes as descriptors 3, 4 and 5.
//
// It is one static binary, embedded into ecolink by package agent/keeper. One
// or two of its processes run for every container, so it must start fast and
// stay small: it imports the standard library and golang.org/x/sys only. There
// is nothing but wiring in this folder. People have no reason to call it.
package main
