package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// HostKey is what the box proves itself by.
type HostKey struct{ signer ssh.Signer }

// LoadHostKey reads the host key from dir, or makes one there, for root alone: a
// host that changes its key is a host that every client warns of.
func LoadHostKey(dir string) (HostKey, error) {
	path := filepath.Join(dir, "host_ed25519")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = makeHostKey(path)
	}
	if err != nil {
		return HostKey{}, fmt.Errorf("SSH host key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(raw)
	if err != nil {
		return HostKey{}, fmt.Errorf("SSH host key %s: %w: put it back from a backup, or remove it to have another made", path, err)
	}
	return HostKey{signer}, nil
}

// makeHostKey writes a new key beside its place and renames it: half a key must not
// have the name.
func makeHostKey(path string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "EcoLink")
	if err != nil {
		return nil, err
	}
	raw := pem.EncodeToMemory(block)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".host_*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) // fails harmlessly after the rename
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return raw, os.Rename(f.Name(), path)
}

// Public is the public half as known_hosts has it, without the host's name.
func (k HostKey) Public() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
}

// Fingerprint is what ssh shows on the first connection.
func (k HostKey) Fingerprint() string { return ssh.FingerprintSHA256(k.signer.PublicKey()) }
