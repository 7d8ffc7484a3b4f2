// Package socket carries terminals and commands over WebSockets: a browser's or
// the CLI's on one side, the scheduler's on the other.
//
// It moves bytes, counts nothing and remembers nothing: a terminal's session and
// its scrollback belong to the machine, and a viewer that comes back names the
// offset that it has got to. It never checks who may do what: its callers have
// put a web.Caller into the context, and the scheduler knows what is theirs.
//
// A terminal's host writes its output into the viewer's TCP connection itself
// (agent.Forwarder), if there is one: then nothing of it passes here, and outlet
// keeps what is said beside it in order.
//
// The API and the console mount its handlers. It is the only package that
// imports the WebSocket library, so that a move to another is one line.
package socket
