package console

import (
	"strings"

	"ecolink/web/throttle"
)

// maxFailures is how many log-ins for one e-mail and from one address may fail
// within throttle.Window.
const maxFailures = 10

// attemptNames are the names that a log-in counts under.
func attemptNames(email, from string) []string {
	email = strings.ToLower(strings.TrimSpace(email))
	if len(email) > 254 { // no address; all such count as one
		email = email[:254]
	}
	return []string{throttle.Address(from), "e-mail " + email}
}
