// Package secrets seals what EcoLink must be able to use again and nobody may read
// in the database or in a backup of it: passwords for other people's services.
//
// The key lies in a file of its own, of mode 0600, beside the database. Backups
// have the records and not the key: a stolen backup opens nothing, and a box that
// is restored without the file says so where a secret is wanted, and goes on with
// everything else. Whoever backs the box up keeps the key file apart.
//
// It stores no records (who has a secret keeps the sealed text in theirs), and it
// is not for what only has to be compared: that is hashed, in package identity.
// Packages of ledger that keep such records call it.
package secrets
