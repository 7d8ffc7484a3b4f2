package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// rememberTime is how long an upload can be gone on with: as long as the server
// keeps it.
const rememberTime = 24 * time.Hour

// uploadMemory keeps where unfinished uploads are, for a later command: a small
// file for each, so that commands that run at once do not disturb each other. What
// can't be kept is only not gone on with.
type uploadMemory struct{ dir string }

func openUploadMemory() (*uploadMemory, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("where to keep what is known of uploads: %w", err)
	}
	m := &uploadMemory{filepath.Join(cache, "ecolink", "uploads")}
	m.tidy()
	return m, nil
}

func (m *uploadMemory) file(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(m.dir, hex.EncodeToString(sum[:16]))
}

// find gives the address of an upload; "" when none is known.
func (m *uploadMemory) find(key string) string {
	raw, err := os.ReadFile(m.file(key))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

func (m *uploadMemory) remember(key, at string) {
	if os.MkdirAll(m.dir, 0o700) == nil {
		_ = os.WriteFile(m.file(key), []byte(at+"\n"), 0o600)
	}
}

func (m *uploadMemory) forget(key string) { _ = os.Remove(m.file(key)) }

// tidy forgets what the server has forgotten.
func (m *uploadMemory) tidy() {
	_ = filepath.WalkDir(m.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > rememberTime {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil
			}
		}
		return nil
	})
}
