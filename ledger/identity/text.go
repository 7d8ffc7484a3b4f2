package identity

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// NormalizeEmail gives the one form in which an e-mail address is stored and
// looked up: trimmed and in lower case. It refuses what can't be an address;
// only a mail can tell whether one is. Addresses are ASCII, so that no two that
// look alike are different users.
func NormalizeEmail(s string) (string, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxEmailBytes {
		return "", failField(ErrInvalid, "email", "the e-mail address is longer than %d characters: enter a shorter one", maxEmailBytes)
	}
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return "", failField(ErrInvalid, "email", "the e-mail address has characters outside ASCII: write an international domain in its xn-- form")
		}
	}
	s = strings.ToLower(s)
	local, domain, _ := strings.Cut(s, "@")
	if !plausibleLocal(local) || !plausibleDomain(domain) {
		return "", failField(ErrInvalid, "email", "%q is not an e-mail address: enter one like name@example.com", s)
	}
	return s, nil
}

// plausibleLocal takes RFC 5322's dot-atom, in lower case; quoted local parts
// are allowed by the RFC and used by nobody.
func plausibleLocal(s string) bool {
	if len(s) > maxLocalBytes {
		return false
	}
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for _, c := range []byte(atom) {
			if !lowerOrDigit(c) && !strings.ContainsRune("!#$%&'*+/=?^_`{|}~-", rune(c)) {
				return false
			}
		}
	}
	return true
}

// plausibleDomain wants two labels at least, so that name@gmail is caught;
// localhost is for boxes that are tried out.
func plausibleDomain(s string) bool {
	if s == "localhost" {
		return true
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabelBytes || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !lowerOrDigit(c) && c != '-' {
				return false
			}
		}
	}
	return len(labels) >= 2
}

func lowerOrDigit(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// cleanText trims a name that people chose and refuses what a page or a terminal
// can't show.
func cleanText(field, s string, maxRunes int) (string, error) {
	s = strings.TrimSpace(s)
	if utf8.RuneCountInString(s) > maxRunes {
		return "", failField(ErrInvalid, field, "the %s is longer than %d characters: choose a shorter one", field, maxRunes)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", failField(ErrInvalid, field, "the %s has characters that can't be shown: use letters, digits, punctuation and plain spaces", field)
	}
	return s, nil
}

func requiredText(field, s string, maxRunes int) (string, error) {
	s, err := cleanText(field, s, maxRunes)
	if err == nil && s == "" {
		return "", failField(ErrInvalid, field, "the %s is empty: enter one", field)
	}
	return s, err
}

// instant is a time as it comes back from the store: UTC, no monotonic reading.
func instant(t time.Time) time.Time { return t.UTC().Round(0) }

func pageSize(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}
