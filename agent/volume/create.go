package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Create makes an empty volume. That it is there already with this size is fine;
// with another it is an error. The size is rounded up to 4,096 bytes.
func (p *Pool) Create(ctx context.Context, id string, bytes int64) error {
	if err := checkNames(id); err != nil {
		return err
	}
	bytes, err := wholeBlocks(bytes)
	if err != nil {
		return err
	}
	defer p.hold(id)()
	size, _, err := allocation(p.image(id))
	switch {
	case err != nil:
		return err
	case size == bytes:
		return nil
	case size != 0:
		return refuse("volume %s is there already with %s, not %s: grow it instead", id, sizeText(size), sizeText(bytes))
	}
	settle, err := p.promise(p.newImage(id), promised{id, bytes})
	if err != nil {
		return fmt.Errorf("create volume %s: %w", id, err)
	}
	defer settle()
	err = p.makeAside(id, func(image *os.File) error {
		if err := p.allocate(image, bytes); err != nil {
			return err
		}
		if err := image.Truncate(bytes); err != nil {
			return err
		}
		return makeFilesystem(ctx, image)
	})
	if err != nil {
		return fmt.Errorf("create volume %s: %w", id, err)
	}
	return nil
}

// wholeBlocks checks a size and rounds it up.
func wholeBlocks(bytes int64) (int64, error) {
	if bytes < MinBytes {
		return 0, refuse("a volume of %d bytes is too small: %d bytes are the least", bytes, int64(MinBytes))
	}
	if bytes > maxBytes {
		return 0, refuse("a volume of %s is too large: %s are the most that ext4 holds in one file of the host", sizeText(bytes), sizeText(maxBytes))
	}
	return (bytes + blockSize - 1) / blockSize * blockSize, nil
}

// maxBytes is the longest file of an ext4 with blocks of 4 KiB.
const maxBytes = (1<<32 - 2) * blockSize

// newImage is where the image of a volume is until its folder has its name.
func (p *Pool) newImage(id string) string { return filepath.Join(p.cfg.Dir, newPrefix+id, "image") }

// makeAside makes a volume's folder with an image that fill has filled, all of
// it synced before it gets its name. Blocks that fill has left out are reserved.
func (p *Pool) makeAside(id string, fill func(image *os.File) error) (err error) {
	tmp, done := p.aside(p.cfg.Dir, newPrefix+id)
	defer func() { err = errors.Join(err, done()) }()
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	if err := p.makeImage(p.newImage(id), fill); err != nil {
		return err
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	if err := p.install(p.newImage(id), tmp, p.dir(id)); err != nil {
		return err
	}
	return syncDir(p.cfg.Dir)
}

func (p *Pool) makeImage(path string, fill func(image *os.File) error) error {
	image, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = fill(image)
	if err == nil {
		err = p.fillHoles(image)
	}
	if err == nil {
		err = image.Sync()
	}
	return errors.Join(err, image.Close())
}

// fillHoles reserves what is not allocated of an image: mkfs.ext4 and the growing
// of a file system zero blocks by punching them out, and copies are sparse.
func (p *Pool) fillHoles(image *os.File) error {
	st, err := image.Stat()
	if err != nil {
		return err
	}
	return p.allocate(image, st.Size())
}

// Delete removes a volume and its snapshots. One that is not there is fine; one
// that is mounted is a BusyError.
func (p *Pool) Delete(ctx context.Context, id string) (err error) {
	if err := checkNames(id); err != nil {
		return err
	}
	defer p.hold(id)()
	image, err := p.claim(ctx, id)
	if errors.Is(err, ErrNotFound) && p.exists(id) {
		err = nil // a folder without an image: somebody's rm. The rest may go.
	} else if errors.Is(err, ErrNotFound) {
		return p.removeMountPoints(id)
	}
	if err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	if image != nil {
		defer image.Close()
	}
	gone, done := p.aside(p.cfg.Dir, gonePrefix+id)
	defer func() { err = errors.Join(err, done()) }()
	if err := os.Rename(p.dir(id), gone); err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	if err := syncDir(p.cfg.Dir); err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	return p.removeMountPoints(id)
}

func (p *Pool) exists(id string) bool {
	_, err := os.Lstat(p.dir(id))
	return err == nil
}

// removeMountPoints removes the folders, not what is in them: a mount that is
// still there keeps its own.
func (p *Pool) removeMountPoints(id string) error {
	dir := filepath.Join(p.cfg.RunDir, id)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
	}
	return errors.Join(err, os.Remove(dir))
}
