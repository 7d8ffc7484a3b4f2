package schedulertest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"ecolink/agent"
)

// Digest is what an image of the name has for its digest in tests.
func Digest(image string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(image))) }

// ImportedImages gives those that KeepImages was told of.
func (w *Workloads) ImportedImages(context.Context) ([]agent.StoredImage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.images), nil
}

// KeepImages has the machine keep these images.
func (w *Workloads) KeepImages(all ...agent.StoredImage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.images = all
}

// PruneImages finds nothing to remove.
func (w *Workloads) PruneImages(context.Context, []string) ([]agent.StoredImage, error) {
	return nil, nil
}
