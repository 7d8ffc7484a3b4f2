package userns

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newMapping makes namespaces for a test, which lets go of them at its end.
func newMapping(t *testing.T) (m Mapping, network string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	m = Mapping{Range: TrialRange(), Path: filepath.Join(dir, "user"), Layer: filepath.Join(dir, "user.layer")}
	network = filepath.Join(dir, "net")
	t.Cleanup(func() {
		if err := errors.Join(m.Remove(), LetGo(network)); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
	if err := m.Create(network); err != nil {
		t.Fatal(err)
	}
	return m, network
}

func owner(t *testing.T, path string) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Uid
}

func TestMappedFoldersHaveTheOwnersThatTheirFilesHaveInside(t *testing.T) {
	m, _ := newMapping(t)
	folder, dir := t.TempDir(), filepath.Join(t.TempDir(), "maps")
	for name, id := range map[string]int{"root": 0, "www-data": 33, "nobody": 65534} {
		if err := errors.Join(os.WriteFile(filepath.Join(folder, name), nil, 0o600), os.Chown(filepath.Join(folder, name), id, id)); err != nil {
			t.Fatal(err)
		}
	}
	maps, err := m.OpenMounts(dir)
	if err != nil {
		t.Fatal(err)
	}
	files, filesErr := maps.Files(folder)
	layer, layerErr := maps.Layer(folder)
	if err := errors.Join(filesErr, layerErr); err != nil {
		t.Fatal(err, maps.Close())
	}
	for name, id := range map[string]uint32{"root": 0, "www-data": 33, "nobody": 65534} {
		for _, mapped := range []string{files, layer} {
			if got := owner(t, filepath.Join(mapped, name)); got != m.First+id {
				t.Errorf("%s is %d's, want %d", name, got, m.First+id)
			}
		}
		if got := owner(t, filepath.Join(folder, name)); got != id {
			t.Errorf("%s has become %d's", name, got)
		}
	}
	// Who mounts an overlay writes to its layer, and nowhere else.
	if err := os.WriteFile(filepath.Join(files, "made"), nil, 0o600); !errors.Is(err, unix.EOVERFLOW) {
		t.Errorf("the host's root writes to a container's files: %v", err)
	}
	if err := os.WriteFile(filepath.Join(layer, "made"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if in, out := owner(t, filepath.Join(layer, "made")), owner(t, filepath.Join(folder, "made")); in != 0 || out != LayerRoot {
		t.Errorf("what the host's root makes in a layer is %d's in it and %d's on the disk", in, out)
	}
	if err := maps.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
	if owner(t, filepath.Join(folder, "root")) != 0 {
		t.Error("closing has changed the folder")
	}
}

func TestNothingIsMappedTwiceNorInAFolderWithFiles(t *testing.T) {
	m, network := newMapping(t)
	if err := m.Create(network); err == nil {
		t.Error("it was made twice")
	}
	if !m.Alive() {
		t.Error("the first try is gone")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if maps, err := m.OpenMounts(dir); err == nil {
		t.Errorf("a folder with files is taken: %v", maps.Close())
	}
	if _, err := os.Stat(filepath.Join(dir, "precious")); err != nil {
		t.Error(err)
	}
	err := Mapping{Range: Range{First: 1000}, Path: m.Path + "2", Layer: m.Path + "3"}.Create(network + "2")
	if err == nil || !strings.Contains(err.Error(), "1000 is not the first id of a range") {
		t.Errorf("got %v", err)
	}
}
