package identity

import (
	"crypto/rsa"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"
)

// SSHPublicKey is a public key that has been checked.
type SSHPublicKey struct {
	Type        string // ssh-ed25519
	Line        string // type and key as authorized_keys has them, without a comment
	Comment     string // what follows them; may be empty
	Fingerprint string // SHA256:…
}

// Text is the key with its comment, as authorized_keys has it.
func (k SSHPublicKey) Text() string { return strings.TrimSpace(k.Line + " " + k.Comment) }

// sshKeyTypes are the kinds of keys that open anything. DSA is too weak, and
// certificates would need an authority that EcoLink does not have.
var sshKeyTypes = map[string]bool{
	ssh.KeyAlgoED25519: true, ssh.KeyAlgoSKED25519: true,
	ssh.KeyAlgoECDSA256: true, ssh.KeyAlgoECDSA384: true, ssh.KeyAlgoECDSA521: true, ssh.KeyAlgoSKECDSA256: true,
	ssh.KeyAlgoRSA: true,
}

// ParseSSHKeys reads the lines of an authorized_keys file: at least one key, none
// twice, and no options, since they are not applied. field names the input in
// errors.
func ParseSSHKeys(field, text string) ([]SSHPublicKey, error) {
	if len(text) > maxSSHKeyBytes {
		return nil, failField(ErrInvalid, field, "public keys may have %d bytes at most: give fewer of them", maxSSHKeyBytes)
	}
	if strings.Contains(text, "PRIVATE KEY-----") {
		return nil, failField(ErrInvalid, field, "this is a private key, which must not leave your computer: give the public one, from the file that ends in .pub")
	}
	var out []SSHPublicKey
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := parseSSHKey(field, line)
		if err != nil {
			return nil, err
		}
		if seen[k.Line] {
			return nil, failField(ErrInvalid, field, "the key %s stands there twice: leave one out", k.Fingerprint)
		}
		seen[k.Line] = true
		if out = append(out, k); len(out) > maxSSHKeysAtOnce {
			return nil, failField(ErrInvalid, field, "there are more than %d keys: leave some out", maxSSHKeysAtOnce)
		}
	}
	if len(out) == 0 {
		return nil, failField(ErrInvalid, field, "there is no public key: give a line like ssh-ed25519 AAAA… you@laptop")
	}
	return out, nil
}

func parseSSHKey(field, line string) (SSHPublicKey, error) {
	key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(rest) > 0 {
		return SSHPublicKey{}, failField(ErrInvalid, field, "%q is not a public SSH key: give a line like ssh-ed25519 AAAA… you@laptop", beginning(line))
	}
	if len(options) > 0 {
		return SSHPublicKey{}, failField(ErrInvalid, field, "the key has options in front (%s), which EcoLink does not apply: leave them out", beginning(strings.Join(options, ",")))
	}
	if !sshKeyTypes[key.Type()] {
		return SSHPublicKey{}, failField(ErrInvalid, field, "keys of type %s are not taken: make one with ssh-keygen -t ed25519", key.Type())
	}
	if crypto, ok := key.(ssh.CryptoPublicKey); ok {
		if public, ok := crypto.CryptoPublicKey().(*rsa.PublicKey); ok {
			if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
				return SSHPublicKey{}, failField(ErrInvalid, field, "the RSA key has %d bits, and %d to %d are taken: make another with ssh-keygen -t ed25519", bits, minRSABits, maxRSABits)
			}
		}
	}
	return SSHPublicKey{
		Type: key.Type(), Comment: cleanComment(comment),
		Line:        strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))),
		Fingerprint: ssh.FingerprintSHA256(key),
	}, nil
}

// cleanComment keeps of a key's comment what can be shown.
func cleanComment(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > maxNameRunes {
		s = string(runes[:maxNameRunes])
	}
	return strings.TrimSpace(s)
}

// beginning is enough of a text to know it again.
func beginning(s string) string {
	const most = 40
	if s = strings.ToValidUTF8(s, "?"); len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
