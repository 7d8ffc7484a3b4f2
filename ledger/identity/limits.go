package identity

import "time"

// Limits. Each list that the package returns whole is bounded by one of them.
const (
	maxNameRunes  = 100
	maxTagRunes   = 64
	maxEmailBytes = 254 // RFC 5321 section 4.5.3.1.3, less the angle brackets
	maxLocalBytes = 64  // RFC 5321 section 4.5.3.1.1
	maxLabelBytes = 63  // RFC 1035 section 2.3.4

	maxMembersPerAccount = 500
	maxAccountsPerUser   = 100
	maxKeysPerAccount    = 500 // that are not revoked
	maxSessionsPerUser   = 50  // past it the one unused for longest is signed out

	maxSSHKeysPerUser = 50
	maxSSHKeysAtOnce  = 16       // in one text: a launch's
	maxSSHKeyBytes    = 32 << 10 // of such a text; an RSA key of 8192 bits has 1.4 KiB
	minRSABits        = 2048
	maxRSABits        = 8192 // checking a longer one's signature costs too much

	maxSSHSignatureBytes = 16 << 10 // armored; RSA's of 8192 bits has 3 KiB
	maxSSHKeysAsked      = 16       // of others' profiles, of one user; the oldest gives way. And so many events of it within disputeEventsWithin
	maxSSHKeysLost       = 10       // that a user is told of
	disputeEventsWithin  = 24 * time.Hour

	maxPage = 200 // rows of one ListUsers, ListAccounts, ListAudit

	maxAuditWordBytes   = 200
	maxAuditDetailBytes = 2048
)

// MinPasswordRunes is the shortest password that is taken.
const MinPasswordRunes = 10

// maxPasswordBytes bounds what is hashed; it is far beyond any passphrase.
const maxPasswordBytes = 1024

// maxWaitingHashes is how many log-ins may wait for a Hasher; past it they are
// refused with ErrBusy, which costs nothing.
const maxWaitingHashes = 256

// How long things last.
const (
	SessionIdle     = 30 * 24 * time.Hour // since it was last seen
	SessionAbsolute = 90 * 24 * time.Hour // since it was created
	SetupTokenLife  = 7 * 24 * time.Hour  // a restart prints a new one

	SSHChallengeLife = 15 * time.Minute
	lostSSHKeyShown  = 30 * 24 * time.Hour

	keyTouchEvery     = time.Minute // how exact Key.LastUsed is
	sessionTouchEvery = time.Hour   // how exact Session.LastSeen is
)
