package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Grow makes a volume larger, whether it is mounted or not, and does nothing to
// one that has the size. It never shrinks one. After a crash, or when it was cut
// short, call it again: the file system takes what its image has at the first mount
// after nobody has had it mounted in any case. A GrowLaterError says that it has to
// wait for that.
func (p *Pool) Grow(ctx context.Context, id string, bytes int64) error {
	if err := checkNames(id); err != nil {
		return err
	}
	bytes, err := wholeBlocks(bytes)
	if err != nil {
		return err
	}
	defer p.hold(id)()
	if err := p.grow(ctx, id, bytes); err != nil {
		return fmt.Errorf("grow volume %s: %w", id, err)
	}
	return nil
}

func (p *Pool) grow(ctx context.Context, id string, bytes int64) error {
	mounts, err := p.mounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.volume == id {
			return p.growMounted(m, bytes)
		}
	}
	return p.growUnmounted(ctx, id, bytes)
}

func (p *Pool) growMounted(m mountPoint, bytes int64) error {
	if err := p.growImage(m.volume, bytes); err != nil {
		return err
	}
	return p.fit(m)
}

// growUnmounted mounts the volume for that, if it may: the kernel grows a file
// system through its journal, so that a power cut does no harm. Either way it is
// checked first: one that is damaged keeps its size.
func (p *Pool) growUnmounted(ctx context.Context, id string, bytes int64) error {
	if mayResizeMounted() {
		m, err := p.mount(ctx, id, growUser)
		if err != nil {
			return err
		}
		return errors.Join(p.growMounted(m, bytes), unmount(m.path))
	}
	image, err := p.claim(ctx, id)
	if err != nil {
		return err
	}
	err = p.check(ctx, id, image)
	if err == nil {
		err = p.growImage(id, bytes)
	}
	if err == nil {
		err = p.fitUnmounted(ctx, id, image)
	}
	if err = errors.Join(err, image.Close()); err != nil {
		return err
	}
	// resize2fs forgets how much the file system's own tables take. The kernel counts
	// them when it mounts it, and writes that down for Usage.
	m, err := p.mount(ctx, id, growUser)
	if err != nil {
		return err
	}
	return unmount(m.path)
}

// growImage makes the file longer. Its new blocks are reserved before its length
// says that they are there, so a full disk or a crash changes nothing.
func (p *Pool) growImage(id string, bytes int64) error {
	size, _, err := allocation(p.image(id))
	switch {
	case err != nil:
		return err
	case size == 0:
		return ErrNotFound
	case size > bytes:
		return refuse("it has %s already and never shrinks: choose a larger size", sizeText(size))
	case size == bytes:
		return nil
	}
	settle, err := p.promise(p.image(id), promised{id, bytes})
	if err != nil {
		return err
	}
	defer settle()
	image, err := os.OpenFile(p.image(id), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer image.Close()
	if err := p.allocate(image, bytes); err != nil {
		// Blocks beyond the end are nobody's; setting the length frees them.
		return errors.Join(err, image.Truncate(size))
	}
	if err := image.Truncate(bytes); err != nil {
		return err
	}
	return image.Sync()
}

// fit makes a mounted file system as large as its image.
func (p *Pool) fit(m mountPoint) error {
	loop, err := openLoop(m.loop)
	if err != nil {
		return err
	}
	defer loop.Close()
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("tell %s its new size: %w", loop.Name(), err)
	}
	image, err := os.OpenFile(p.image(m.volume), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer image.Close()
	st, err := image.Stat()
	if err != nil {
		return err
	}
	if err := resizeMounted(m, image, st.Size()/blockSize); err != nil {
		return err
	}
	return p.fillHoles(image)
}

// fitUnmounted is fit for a claimed image that passed its check.
func (p *Pool) fitUnmounted(ctx context.Context, id string, image *os.File) error {
	if err := p.checkWith(ctx, id, image, "-f"); err != nil { // resize2fs asks for it
		return err
	}
	if err := run(ctx, image, "resize2fs", image.Name()); err != nil {
		return err
	}
	if err := p.fillHoles(image); err != nil {
		return err
	}
	return image.Sync()
}

const (
	groupBlocks = 8 * blockSize // of an ext4 block group: a bit each in one block
	// leastGroup is the smallest last group worth having. Below about 1,600
	// blocks, its own tables do not fit.
	leastGroup = 2048
)

// usableBlocks is how large a file system can be on so many blocks.
func usableBlocks(blocks int64) int64 {
	if rest := blocks % groupBlocks; rest < leastGroup {
		return blocks - rest
	}
	return blocks
}

// cutShort reports whether a growth was: the file system has not taken what its
// image has.
func cutShort(image *os.File) (bool, error) {
	st, err := image.Stat()
	if err != nil {
		return false, err
	}
	sb, err := readSuperblock(image)
	return sb.blocks+leastGroup < usableBlocks(st.Size()/blockSize), err
}

// mayResizeMounted reports whether the kernel lets us grow a mounted file system.
// Some containers and virtual machines withhold the capability even from root.
func mayResizeMounted() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// resizeMounted makes a mounted file system so many blocks large.
func resizeMounted(m mountPoint, image *os.File, blocks int64) error {
	sb, err := readSuperblock(image)
	if err != nil {
		return err
	}
	want := uint64(usableBlocks(blocks))
	if want <= uint64(sb.blocks) {
		return nil
	}
	dir, err := os.Open(m.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = retryEINTR(func() error { return ioctl(dir, ext4IocResize, unsafe.Pointer(&want)) })
	if errors.Is(err, unix.EPERM) {
		return &GrowLaterError{Volume: m.volume}
	}
	if err != nil {
		return fmt.Errorf("grow the file system at %s to %d blocks: %w", m.path, want, err)
	}
	return nil
}
