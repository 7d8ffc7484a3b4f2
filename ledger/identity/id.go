package identity

// AccountID numbers accounts: who owns money and resources.
type AccountID int64

// UserID numbers users: who logs in.
type UserID int64

// KeyID numbers API keys.
type KeyID int64
