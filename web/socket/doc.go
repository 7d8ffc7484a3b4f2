// Package socket carries terminals and commands over WebSockets: a browser's or
// the CLI's on one side, the scheduler's on the other.
//
// It moves bytes, counts nothing and remembers nothing: a terminal's session and
// its scrollback belong to the machine, and a viewer that comes back names the
// offset that it has got to. It never checks who may do what: its callers have
// put a web.Caller into the context, and the scheduler knows what is theirs.
//
// The API and the console mount its handlers. It is the only package that
// imports the WebSocket library, which is frozen, so that a move to its
// continuation is one line.
package socket
