// Package session hosts a terminal: it stands between a shell's PTY, which
// containerd's shim holds, and everybody who watches and types.
//
// The host (Serve) is a process of its own, started by the shim for an exec
// with a PTY, so that the session goes on while EcoLink is stopped or replaced.
// It keeps the last output in a ring of fixed size and numbers every byte that
// the terminal ever printed. A client says up to which byte it has seen, and
// gets exactly what came after. Clients are independent of each other: none of
// them, nor a program that does not read its input, can hold up the PTY.
//
// Over the unix socket dir/sock a client sends one line and gets one:
//
//	ATTACH <offset>\n     OK <start>\n     or   ERR <reason>\n
//
// and from then on both directions are raw: keyboard input one way, output from
// byte <start> on the other. <offset> is a byte number, -1 for all that is
// still kept or -2 for only what is new. <start> is the asked offset moved into
// what is kept: bytes that are gone are skipped, offsets beyond the end become
// the end. Half-closing the connection ends it.
//
// The host closes a connection when the terminal has ended, or when the client
// reads so slowly that what it needs next has left the ring. It then attaches
// again at its offset and sees from <start> how much it missed.
//
// When the terminal ends, dir/ended says so before any connection is closed; it
// holds the number of all bytes ever printed, and on a second line the reason
// if it was not the end of the program. A socket that nobody listens on means
// the same: the host was killed, and nobody else knows the scrollback.
//
// The host does not know what a terminal's bytes mean, nor who a client is: the
// folder's mode 0700, which the caller sets, is the only protection. Window
// sizes and signals go through containerd and not through here.
//
// Dial is the client's side, used by agent/terminal in EcoLink's main process.
package session
