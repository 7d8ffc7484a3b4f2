package keeper

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// embedded holds the folder rather than the file, so that this package also
// compiles before the binary has been built.
//
//go:embed all:embedded
var embedded embed.FS

// The files that `make generate` builds into the embedded folder.
const (
	binaryName = "ecolink-keeper"
	sftpName   = "ecolink-sftp"
)

// hashDigits is how many hexadecimal digits of the SHA-256 the installed name
// carries: enough to tell builds apart, short enough to read in `ps`.
const hashDigits = 12

// ErrNotBuilt is what Install returns from an EcoLink that was compiled before
// what it carries was.
var ErrNotBuilt = errors.New("it is not inside of this build: run 'make generate' and build again")

// Install makes sure that dir holds this build's ecolink-keeper and returns the
// path, dir/ecolink-keeper-<12 hex digits of its SHA-256>, mode 0755. dir is
// created with mode 0755 when it is missing.
//
// Calling it again is cheap and changes nothing when the file is whole; a
// damaged file is replaced. The file appears in one step, so a crash or a
// concurrent Install leaves either no file or a whole one. Other versions in
// dir are left alone: running containers use them.
//
// It returns an error that wraps ErrNotBuilt when the binary is missing from
// this build, and the file system's error otherwise.
func Install(dir string) (path string, err error) {
	return installEmbedded(binaryName, dir)
}

// InstallSFTP is Install for ecolink-sftp, which serves files inside containers.
func InstallSFTP(dir string) (path string, err error) { return installEmbedded(sftpName, dir) }

func installEmbedded(name, dir string) (string, error) {
	files, err := fs.Sub(embedded, "embedded")
	if err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	return install(files, name, dir)
}

func install(files fs.FS, name, dir string) (string, error) {
	binary, err := fs.ReadFile(files, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("install %s: %w", name, ErrNotBuilt)
	}
	if err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	sum := sha256.Sum256(binary)
	path := filepath.Join(dir, name+"-"+hex.EncodeToString(sum[:])[:hashDigits])
	if isWhole(path, binary) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	if err := writeExecutable(path, binary); err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	return path, nil
}

// isWhole compares contents, not just the name: a power cut may have left a
// file whose last blocks never reached the disk.
func isWhole(path string, want []byte) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o755 || info.Size() != int64(len(want)) {
		return false
	}
	have, err := os.ReadFile(path)
	return err == nil && bytes.Equal(have, want)
}

// writeExecutable writes beside the target and renames, because a file that is
// being executed can't be written to (ETXTBSY) and a half-written one must
// never be visible under its final name.
func writeExecutable(path string, binary []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".ecolink-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // fails harmlessly after the rename
	_, err = temporary.Write(binary)
	if err == nil {
		err = temporary.Chmod(0o755)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
