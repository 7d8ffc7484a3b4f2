package ledger

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"ecolink/ledger/store"
)

// Whatever an archive's file has, it is read as it was written or not at all.
func FuzzArchive(f *testing.F) {
	s, files := newArchived(f)
	whole, err := os.ReadFile(files[1])
	if err != nil {
		f.Fatal(err)
	}
	var rec ArchiveFile
	err = s.View(func(tx *store.Tx) error {
		all, err := Archives(tx)
		rec = all[1]
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	f.Add(whole)
	f.Add(whole[:archiveHeader+archiveFooter])
	f.Add(append(bytes.Clone(whole[:len(whole)-archiveFooter]), whole[len(whole)-archiveFooter-archiveBlockLine:]...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		write(t, filepath.Join(dir, rec.Name), raw)
		own := rec
		own.Bytes = int64(len(raw)) // or all of them would end there
		a, err := openArchive(dir, own)
		if err == nil {
			err = a.verify()
			a.close()
		}
		if err == nil && !bytes.Equal(raw, whole) {
			last, err := a.block(len(a.blocks) - 1)
			a.close()
			if err != nil || last[len(last)-1].Hash != rec.LastHash {
				t.Errorf("another file passes for the archive: %v", err)
			}
		}
	})
}
