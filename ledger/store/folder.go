package store

import (
	"errors"
	"os"
)

// SyncFolder puts a folder's names on disk: what was made, renamed or removed in
// it stays so after a power cut.
func SyncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
