// Package console is what people see in a browser: pages that are rendered on
// the server, live where something moves, readable and usable without scripts.
//
// Its handlers find out who is signed in, parse, call one function of the
// scheduler, the ledger or identity, and render. They make no decision about
// money or placement: what they work out is only for showing. Errors go through
// web.Explain and are pages. Nothing inline is ever written into a page, neither
// script nor style: the Content-Security-Policy forbids it.
//
// A page has a .go file with its handlers and a .templ file with what it shows;
// the small components that pages share are in parts.templ. The browser's part
// is in assets. cmd mounts the handler at /.
package console
