// Package web is what people and programs talk to, and here what its parts
// share: who is calling, the one shape of errors, the id of a request, how long a
// peer may keep one waiting.
//
// Its subpackages parse a request, call one function of the scheduler, the
// ledger or identity, and render the answer. None of them decides about money
// or placement. Every error on its way to a caller goes through Explain, which
// alone knows what kind of problem has which HTTP status.
//
// cmd wires the subpackages into one server; api, console, socket and admin use
// what is here.
package web
