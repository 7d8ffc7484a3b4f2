package secrets

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	keyBytes  = 32 // AES-256
	idBytes   = 4  // of the key's hash: tells keys apart
	maxSecret = 64 << 10
)

// ErrOtherKey is why a secret can't be opened: it was sealed with a key that is not
// in the key file.
var ErrOtherKey = errors.New("the key that it was sealed with is not here")

// Sealed is a secret that only the box's key opens.
type Sealed string

// Keyring seals and opens secrets with the key of the box. Its methods may be
// called from many goroutines.
type Keyring struct {
	path string
	id   string
	aead cipher.AEAD
}

// Open reads the key file, and makes it with a new key when there is none. A file
// that others may read is refused.
func Open(path string) (*Keyring, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("make the key file %s: %w", path, err)
		}
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key file: %w", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read the key file %s: set its mode to 0600 (chmod 600)", path)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("the key file %s has no key: put the one back that was there, or move it away to begin with a new one", path)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key)
	return &Keyring{path: path, id: hex.EncodeToString(sum[:idBytes]), aead: aead}, nil
}

// create writes a new key so that a power cut leaves all of it or nothing.
func create(path string) error {
	var key [keyBytes]byte
	rand.Read(key[:])
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, hex.EncodeToString(key[:]))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// A link is refused where another process was faster: its key holds.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Seal closes a secret up. about names whose it is and what for: it opens with the
// same words only, so that a sealed text is of no use in another record.
func (k *Keyring) Seal(secret, about string) (Sealed, error) {
	if len(secret) > maxSecret {
		return "", fmt.Errorf("a secret has at most %d bytes", maxSecret)
	}
	nonce := make([]byte, k.aead.NonceSize())
	rand.Read(nonce)
	closed := k.aead.Seal(nonce, nonce, []byte(secret), []byte(about))
	return Sealed(k.id + "." + base64.RawStdEncoding.EncodeToString(closed)), nil
}

// Open opens a secret that was sealed about the same.
func (k *Keyring) Open(s Sealed, about string) (string, error) {
	id, text, ok := strings.Cut(string(s), ".")
	if ok && id != k.id {
		return "", fmt.Errorf("%w: put the key file back as %s, or enter the secret again", ErrOtherKey, k.path)
	}
	closed, err := base64.RawStdEncoding.DecodeString(text)
	if !ok || err != nil || len(closed) < k.aead.NonceSize() {
		return "", errors.New("this is no sealed secret")
	}
	n := k.aead.NonceSize()
	open, err := k.aead.Open(nil, closed[:n], closed[n:], []byte(about))
	if err != nil {
		return "", errors.New("the sealed secret was changed, or belongs to another record")
	}
	return string(open), nil
}
