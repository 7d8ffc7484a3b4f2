// Package throttle slows down who guesses: it counts failed attempts by name, an
// address or an e-mail, and says how long to wait.
//
// It keeps its counts in memory, which is bounded, and forgets them with the
// process. It knows neither passwords nor keys. The console and the SSH server call
// it.
package throttle
