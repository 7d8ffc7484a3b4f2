package registries

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ecolink/ledger/identity"
	"ecolink/ledger/secrets"
	"ecolink/ledger/store"
)

// Limits.
const (
	maxPerAccount    = 50
	maxHostBytes     = 255
	maxUsernameBytes = 255
	maxPasswordBytes = 16 << 10 // tokens of cloud registries have a few KiB
)

// ID numbers log-ins.
type ID int64

// Record is a log-in without its password.
type Record struct {
	ID        ID                 `json:"id"`
	Account   identity.AccountID `json:"account"`
	Host      string             `json:"host"` // as in an image's name: docker.io, registry.example:5000
	Username  string             `json:"username"`
	Password  secrets.Sealed     `json:"password"`
	CreatedBy identity.UserID    `json:"created_by"`
	CreatedAt time.Time          `json:"created_at"`
}

func (r Record) about() string {
	return fmt.Sprintf("registry log-in\x00%d\x00%s\x00%s", r.Account, r.Host, r.Username)
}

// Login is what a registry asks for.
type Login struct{ Username, Password string }

// String keeps the password out of logs.
func (l Login) String() string { return "a log-in as " + l.Username }

// GoString does so for %#v.
func (l Login) GoString() string { return l.String() }

var (
	records   = store.NewIntCollection[ID, Record]("registries")
	byAccount = store.NewPairCollection[struct{}]("registries.by-account")
)

// Book stores and finds log-ins. Its methods may be called from many goroutines.
type Book struct{ keys *secrets.Keyring }

// New makes a book whose passwords the keyring seals.
func New(keys *secrets.Keyring) *Book { return &Book{keys} }

// Input is a log-in that is to be stored.
type Input struct {
	Account            identity.AccountID
	By                 identity.UserID
	Host               string
	Username, Password string
}

// Store keeps a log-in, in place of the one that the account has for the host.
func (b *Book) Store(tx *store.Tx, in Input, now time.Time) (Record, error) {
	host, err := CleanHost(in.Host)
	if err != nil {
		return Record{}, err
	}
	if err := checkText("username", in.Username, maxUsernameBytes); err != nil {
		return Record{}, err
	}
	if err := checkText("password", in.Password, maxPasswordBytes); err != nil {
		return Record{}, err
	}
	all, err := List(tx, in.Account)
	if err != nil {
		return Record{}, err
	}
	r := Record{Account: in.Account, Host: host, Username: in.Username, CreatedBy: in.By, CreatedAt: now.UTC().Round(0)}
	for _, had := range all {
		if had.Host == host {
			r.ID = had.ID
		}
	}
	if r.ID == 0 {
		if len(all) >= maxPerAccount {
			return Record{}, invalid(identity.ErrConflict, "host", "the account has %d log-ins, the most it can have: remove one first", len(all))
		}
		id, err := tx.NextID(records.Name())
		if err != nil {
			return Record{}, err
		}
		r.ID = ID(id)
	}
	if r.Password, err = b.keys.Seal(in.Password, r.about()); err != nil {
		return Record{}, err
	}
	if err := records.Put(tx, r.ID, r); err != nil {
		return Record{}, err
	}
	return r, byAccount.Put(tx, store.Pair{A: int64(r.Account), B: int64(r.ID)}, struct{}{})
}

// Find opens the account's log-in for a host; ok is false when it has none.
func (b *Book) Find(tx *store.Tx, account identity.AccountID, host string) (l Login, ok bool, err error) {
	all, err := List(tx, account)
	if err != nil {
		return l, false, err
	}
	for _, r := range all {
		if r.Host != host {
			continue
		}
		l = Login{Username: r.Username}
		if l.Password, err = b.keys.Open(r.Password, r.about()); errors.Is(err, secrets.ErrOtherKey) {
			return l, false, invalid(identity.ErrConflict, "image",
				"the account's password for %s can't be read any more, since the box's key file is not the one that it was stored with: store it again (`ecolink registry login %s`), or ask the operator to put the file back", host, host)
		}
		return l, err == nil, err
	}
	return l, false, nil
}

// List reads the account's log-ins, oldest first.
func List(tx *store.Tx, account identity.AccountID) ([]Record, error) {
	var out []Record
	for row, err := range byAccount.Scan(tx, store.First(int64(account)), store.Last(int64(account))) {
		if err != nil {
			return nil, err
		}
		r, ok, err := records.Get(tx, ID(row.Key.B))
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, r)
		}
	}
	return out, nil
}

// Remove forgets a log-in of the account.
func Remove(tx *store.Tx, account identity.AccountID, id ID) (Record, error) {
	r, ok, err := records.Get(tx, id)
	if err != nil {
		return Record{}, err
	}
	if !ok || r.Account != account {
		return Record{}, invalid(identity.ErrNotFound, "", "account %d has no registry log-in %d: choose one from its list", account, id)
	}
	if err := records.Delete(tx, id); err != nil {
		return Record{}, err
	}
	return r, byAccount.Delete(tx, store.Pair{A: int64(account), B: int64(id)})
}

// Unreadable counts log-ins whose passwords can't be opened with the box's key.
func (b *Book) Unreadable(tx *store.Tx) (n int, err error) {
	for row, err := range records.All(tx) {
		if err != nil {
			return 0, err
		}
		if _, err := b.keys.Open(row.Value.Password, row.Value.about()); err != nil {
			n++
		}
	}
	return n, nil
}

// CleanHost gives the one form of a registry's host: as images' names have it, in
// lower case, without scheme or path, and docker.io for all of Docker Hub's names.
func CleanHost(s string) (string, error) {
	host := strings.ToLower(strings.TrimSpace(s))
	host = strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io", "hub.docker.com", "registry.hub.docker.com":
		host = "docker.io"
	}
	bad := strings.ContainsFunc(host, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune(".-:[]", c))
	})
	if host == "" || len(host) > maxHostBytes || bad {
		return "", invalid(identity.ErrInvalid, "host", "%q is not the host of a registry: write it as images' names have it, like ghcr.io or registry.example.org:5000", printable(s))
	}
	return host, nil
}

func checkText(field, s string, most int) error {
	if s == "" {
		return invalid(identity.ErrInvalid, field, "the %s is empty: enter one", field)
	}
	if len(s) > most {
		return invalid(identity.ErrInvalid, field, "the %s is longer than %d bytes: enter a shorter one", field, most)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return invalid(identity.ErrInvalid, field, "the %s has characters that no registry takes: is it a whole file, or has it a line break at its end?", field)
	}
	return nil
}

func printable(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if cut := []rune(s); len(cut) > 80 {
		s = string(cut[:80]) + "…"
	}
	return s
}

// invalid makes identity's error, which web knows how to show.
func invalid(kind error, field, format string, args ...any) error {
	return &identity.Error{Kind: kind, Field: field, Message: fmt.Sprintf(format, args...)}
}
