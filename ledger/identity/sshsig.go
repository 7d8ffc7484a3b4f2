package identity

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The format of `ssh-keygen -Y sign`: PROTOCOL.sshsig of OpenSSH.
const (
	sshsigMagic   = "SSHSIG"
	sshsigVersion = 1
	sshsigType    = "SSH SIGNATURE"
)

// sshsigBlob is what the armour holds, behind the magic.
type sshsigBlob struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  []byte
	Hash      string
	Signature []byte
}

// sshsigSigned is what was signed, behind the magic.
type sshsigSigned struct {
	Namespace string
	Reserved  []byte
	Hash      string
	Digest    []byte
}

// verifySSHSignature returns nil when armored is a signature over message, made
// with key's private half for the namespace.
func verifySSHSignature(key ssh.PublicKey, namespace, message, armored string) error {
	blob, err := parseSSHSignature(armored)
	switch {
	case err != nil:
		return err
	case blob.Namespace != namespace:
		return fmt.Errorf("it was made for %q and not with -n %s", beginning(blob.Namespace), namespace)
	case string(blob.PublicKey) != string(key.Marshal()):
		return errors.New("it was made with another key")
	}
	var digest []byte
	switch blob.Hash {
	case "sha256":
		sum := sha256.Sum256([]byte(message))
		digest = sum[:]
	case "sha512":
		sum := sha512.Sum512([]byte(message))
		digest = sum[:]
	default:
		return fmt.Errorf("its hash %q is not known", beginning(blob.Hash))
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(blob.Signature, &sig); err != nil {
		return errors.New("it is damaged")
	}
	if sig.Format == ssh.KeyAlgoRSA { // with SHA-1, which the format forbids
		return errors.New("it is an RSA signature with SHA-1")
	}
	signed := append([]byte(sshsigMagic), ssh.Marshal(sshsigSigned{blob.Namespace, blob.Reserved, blob.Hash, digest})...)
	if err := key.Verify(signed, &sig); err != nil {
		return errors.New("it is of another text, or damaged")
	}
	return nil
}

// parseSSHSignature reads the armour. What stands before it is left out: people
// copy more than they need from a terminal.
func parseSSHSignature(armored string) (blob sshsigBlob, err error) {
	if len(armored) > maxSSHSignatureBytes {
		return blob, fmt.Errorf("it has more than %d bytes", maxSSHSignatureBytes)
	}
	var lines []string
	for line := range strings.Lines(armored) {
		lines = append(lines, strings.TrimSpace(line))
	}
	block, _ := pem.Decode([]byte(strings.Join(lines, "\n") + "\n"))
	if block == nil || block.Type != sshsigType || len(block.Headers) > 0 {
		return blob, fmt.Errorf("it is not all that stands from -----BEGIN %s----- to -----END %[1]s-----", sshsigType)
	}
	raw, ok := strings.CutPrefix(string(block.Bytes), sshsigMagic)
	if !ok || ssh.Unmarshal([]byte(raw), &blob) != nil {
		return sshsigBlob{}, errors.New("it is damaged")
	}
	if blob.Version != sshsigVersion {
		return sshsigBlob{}, fmt.Errorf("its version %d is not known", blob.Version)
	}
	return blob, nil
}
