package userland

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// layer is a compressed file system on the disk, whose digests were taken when it
// was made: taking them anew reads it twice.
type layer struct {
	file  string
	facts facts
}

// facts are kept beside the file.
type facts struct {
	Compressed   string `json:"compressed"` // SHA-256, in hex
	Uncompressed string `json:"uncompressed"`
	Bytes        int64  `json:"bytes"` // compressed
}

const (
	layerFile = "layer.tar.gz"
	factsFile = "layer.json"
)

func openLayer(dir string) (*layer, error) {
	raw, err := os.ReadFile(filepath.Join(dir, factsFile))
	if err != nil {
		return nil, err
	}
	l := &layer{file: filepath.Join(dir, layerFile)}
	return l, json.Unmarshal(raw, &l.facts)
}

// writeLayer compresses a tar archive into dir.
func writeLayer(dir string, archive io.Reader) error {
	f, err := os.Create(filepath.Join(dir, layerFile))
	if err != nil {
		return err
	}
	defer f.Close()
	in, out := sha256.New(), sha256.New()
	// Size matters less than time: it goes no further than this machine.
	zip, err := gzip.NewWriterLevel(io.MultiWriter(f, out), gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.MultiWriter(zip, in), archive); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(facts{Compressed: sum(out), Uncompressed: sum(in), Bytes: info.Size()})
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, factsFile), raw, 0o644)
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// Digest implements v1.Layer.
func (l *layer) Digest() (v1.Hash, error) {
	return v1.Hash{Algorithm: "sha256", Hex: l.facts.Compressed}, nil
}

// DiffID implements v1.Layer.
func (l *layer) DiffID() (v1.Hash, error) {
	return v1.Hash{Algorithm: "sha256", Hex: l.facts.Uncompressed}, nil
}

// Size implements v1.Layer.
func (l *layer) Size() (int64, error) { return l.facts.Bytes, nil }

// MediaType implements v1.Layer.
func (l *layer) MediaType() (types.MediaType, error) { return types.DockerLayer, nil }

// Compressed implements v1.Layer.
func (l *layer) Compressed() (io.ReadCloser, error) { return os.Open(l.file) }

// Uncompressed implements v1.Layer.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	unzip, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{unzip, f}, nil
}
