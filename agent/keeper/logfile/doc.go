// Package logfile keeps what a container prints: a bounded, rotated log on the
// disk, with its writer and its readers in one place.
//
// A log is a folder: current.log is written to, 1.log is the one before it,
// 2.log the one before that. A record is one line in the layout of the
// Kubernetes CRI log format, so that grep and existing collectors read it:
//
//	2026-01-02T15:04:05.123456789Z stdout F text of the line
//
// F ends a line, P says that the line goes on in the stream's next record. The
// text is the container's bytes as they came, whatever they are, except for the
// newline; so joining a stream's texts, with a newline after each F, gives back
// exactly what was printed.
//
// The writer (Serve) runs in the ecolink-keeper process that containerd's shim
// starts for each container, and goes on while EcoLink is stopped. It never
// lets a full or broken disk block or kill the container: what can't be written
// is counted, dropped and noted in the log later. A disk that hangs without an
// error holds the container's output back as any file would. Records are not
// synced: a power cut may take the last seconds.
//
// The readers (Read, Follow) run in EcoLink's main process, on behalf of the
// agent's runtime; they never write, lock or delete anything.
package logfile
