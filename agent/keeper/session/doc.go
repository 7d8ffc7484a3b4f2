// Package session hosts a terminal: it stands between a shell's PTY and everybody
// who watches and types.
//
// The host (Serve) is a process of its own, started by containerd's shim as the
// log writer of the shell, so that the session goes on while EcoLink is stopped or
// replaced. The shell begins as Shell, inside the container: it makes a PTY and
// waits. Whoever started it tells the host its process id (Adopt); the host takes
// the PTY's master over with pidfd_getfd (Linux 5.6) and lets the shell go. So no
// byte goes through the shim.
//
// The host keeps the last output in a ring in a file, dir/scrollback, and numbers
// every byte that the terminal ever printed. A client says up to which byte it has
// seen, and gets exactly what came after. Nothing is synced: the file outlives a
// host that is killed (Scrollback), not the machine. On a full disk the ring goes
// on in memory, and is smaller.
//
// # Who may hold up whom
//
// The program is not read from, and so waits, when the ring would overwrite what a
// viewer has yet to get; and never else. With nobody attached it runs freely. The
// bounds (usualAllowance): a viewer may take 15 s for one piece, or is hung up on;
// while another viewer has seen everything and waits, a slow one may hold the
// program for 5 s in all until it has caught up; the place of one whose connection
// broke is kept for 30 s, and that of one who said good-bye not at all. Behind each
// place a reserve of 2 MiB is kept, for what was on its way when the connection
// broke: who forwards output must not let more be under way (package web/socket
// waits for acknowledgements). A session never waits for another, which has its
// own process.
//
// # The protocol
//
// Over the unix socket dir/sock a client sends one line and gets one:
//
//	ATTACH <offset> <cols> <rows>\n   OK <start> <length>\n, and a prologue of that length
//	ADOPT <pid> <cols> <rows>\n       OK adopted\n   once the shell has begun
//	STATUS\n                          OK <JSON>\n
//	                                  or ERR <reason>\n
//
// A shell that whoever started it did not live to hand over is as good as ended:
// who attaches is told so, and may start another.
//
// After ATTACH both directions are frames; see the constants in wire.go. With the
// answer comes the PTY's master, for keys: they are typed right into it when
// nothing else of the client's is under way, which spares them a process.
//
// A client may hand the TCP socket of whom it shows the terminal to, and the end of a
// side channel (forward.go). From then on the host writes output there itself, as
// messages of RFC 6455, as far as the client gives it credit, and the client's own
// frames between them: that spares output a process. Either's end, or a message that
// broke off, is the end of the socket, unless the client goes on in it.
//
// <offset> is a byte number, -1 for all that is kept, -2 for only what is new, or
// -3 for what an empty screen needs. <start> is the asked offset moved into what is
// kept. A viewer who has seen nothing, or whose place is gone, begins between two
// lines, after a prologue that sets its terminal's modes. Under a full-screen
// program that has drawn more than it is worth to replay it begins at once, and the
// program is made to draw everything again, by a window that is a row smaller for a
// tenth of a second.
//
// The terminal has one window: that of the viewer who was the last to come, to type
// or to change its own. The others are told.
//
// The host closes a connection when the terminal has ended, or when the client fell
// behind. It then attaches again at its offset and sees from <start> how much it
// missed. When the terminal ends, dir/ended says so before any connection is
// closed; it holds the number of all bytes ever printed, and on a second line the
// reason if it was not the end of the program. A socket that nobody listens on
// means the same: the host was killed, and the PTY with it.
//
// The terminal ends with its shell, the process that was handed over, also when
// others still have the PTY open, such as a job in the background. They live on, as
// processes whose terminal has hung up: they read its end, and can't write any more.
// It also ends when nobody has the PTY open any more.
//
// A shell that is at its prompt, has started nothing that still runs and was not
// looked at for Config.IdleSeconds is hung up on. A job is never ended.
//
// The host does not know what a terminal's bytes mean beyond modes, nor who a
// client is: the folder's mode 0700, which the caller sets, is the only protection.
//
// Dial is the client's side, used by agent/terminal in EcoLink's main process.
package session
