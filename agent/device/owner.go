package device

import "fmt"

// maxOwnerLength keeps the file names of an owner far below the 255 bytes that
// Linux allows.
const maxOwnerLength = 128

// checkOwner accepts names such as instance-142: ASCII letters, digits, "-" and
// "_", beginning and ending with a letter or digit. Such a name is a file name
// that stays in its directory and a CDI device name (CDI SPEC.md, "Kind").
func checkOwner(owner string) error {
	if owner == "" || len(owner) > maxOwnerLength {
		return fmt.Errorf("owner %.40q is %d bytes long: it must have 1 to %d", owner, len(owner), maxOwnerLength)
	}
	for i, c := range []byte(owner) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case (c == '-' || c == '_') && i > 0 && i < len(owner)-1:
		default:
			return fmt.Errorf("owner %q is not a name such as instance-142: only letters, digits, - and _, with a letter or digit at both ends", owner)
		}
	}
	return nil
}
