package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ecolink/web/proxy"
)

// passKeyBytes is the length of the key that signs passes to instances' hosts.
const passKeyBytes = 32

// services is what the proxy of services needs of this box.
type services struct {
	origins proxy.Origins
	passKey []byte
}

func openServices(c serveConfig, public string) (s services, err error) {
	if s.origins, err = proxy.ParseOrigins(public, c.serviceURL); err != nil {
		return s, fmt.Errorf("--service-url: %w", err)
	}
	s.passKey, err = secretFile(filepath.Join(c.dataDir, "service.key"), passKeyBytes)
	return s, err
}

// secretFile reads n secret bytes, which are made when the file is not there. It
// gets its name when it is whole and on the disk.
func secretFile(path string, n int) ([]byte, error) {
	secret, err := os.ReadFile(path)
	if err == nil && len(secret) != n {
		err = fmt.Errorf("%s has %d bytes and not %d: delete it, and a new one is made", path, len(secret), n)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	secret = make([]byte, n)
	rand.Read(secret)
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(secret)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, err
	}
	return secret, syncDir(filepath.Dir(path))
}

// syncDir has the disk know the names in a folder.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
