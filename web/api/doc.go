// Package api is the /v1 management API: GPU instances, drives, GPUs, billing and API
// keys over HTTP and JSON, with the OpenAPI 3.1 document that is generated from
// the code that serves it, and the page at /docs that shows it.
//
// A handler parses, calls one function of the scheduler, the ledger or identity,
// and renders. The package decides nothing about money or placement, never shows
// the value of a user's environment variable, and knows no error shape but
// web.Failure: what the framework refuses comes out in it too (errors.go).
//
// Creating and revoking API keys is recorded in the audit log, in the same
// transaction. Launching, extending and terminating are not: the scheduler's
// transaction is its own, and an event written before or after it could tell of
// something that did not happen, or be missing for something that did. The
// instance's history and the ledger's rows, both written in that transaction,
// carry who, when and the request id.
//
// cmd wires New into its server, inside web.Identify.
package api
