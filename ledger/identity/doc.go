// Package identity knows who may act on the box: users, accounts, memberships,
// API keys, SSH keys, browser sessions, the first operator's set-up, and the audit log.
//
// A public SSH key is somebody's claim until they prove to have its private half,
// by a signature that ssh-keygen makes over a challenge (sshproof.go); who proves
// it takes it from who has only claimed it. Who asks for one disputes it, which is an
// audit event, as is the taking.
//
// It keeps no secret that could be used again: passwords are argon2id hashes;
// API keys, session tokens and the set-up token are kept as SHA-256, which is
// enough because each carries more than 200 random bits. It never reads the
// clock, never hashes a password inside a transaction (that would hold up the
// only writer for a tenth of a second), and knows nothing of money.
//
// The web and API layers, the CLI and the packages under ledger call it. Its
// functions take a *store.Tx, so that a caller puts a sign-up, its bonus and
// its audit event in one transaction. Errors are *Error; see its Kind.
package identity
