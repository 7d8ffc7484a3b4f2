// Package initproc is process 1 of every EcoLink container.
//
// A dev box lives for its paid time, not for its start command. So process 1 is
// ours: it starts the command if there is one, reaps every orphan, passes
// signals on, says how the command ended, and stays until it is told to stop.
//
// It never restarts the command, never reads configuration, and needs nothing
// from the image: no shell, no /etc, no libraries. It refuses to run as any
// process but 1, because stopping ends every process that it can see.
//
// cmd/ecolink-keeper calls Run for `ecolink-keeper init`.
package initproc
