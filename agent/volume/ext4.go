package volume

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeFilesystem writes an empty ext4. All of it is written now (no lazy
// initialisation); in a file that is quick. Nothing is kept for root, as
// everybody in a container is root.
func makeFilesystem(ctx context.Context, image *os.File) error {
	return run(ctx, nil, "mkfs.ext4", "-q", "-F", "-m", "0", "-b", fmt.Sprint(blockSize),
		"-O", "metadata_csum,64bit", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", image.Name())
}

// check makes an image fit to be mounted: it replays the journal and mends what
// is safe to mend, which takes milliseconds for one that was left in order. The
// program inherits the lock on the image, so that it is alone even if we die.
func (p *Pool) check(ctx context.Context, id string, image *os.File) error {
	return p.checkWith(ctx, id, image)
}

func (p *Pool) checkWith(ctx context.Context, id string, image *os.File, flags ...string) error {
	err := run(ctx, image, "e2fsck", append(flags, "-p", image.Name())...)
	var failed *exec.ExitError
	if !errors.As(err, &failed) || ctx.Err() != nil {
		return err
	}
	const mended, canceled = 1 | 2, 32 // fsck(8): any other bit means that damage is left
	switch code := failed.ExitCode(); {
	case code < 0 || code == canceled: // by a signal
		return err
	case code&^mended == 0:
		p.log.Warn("a volume was mended", "volume", id)
		return nil
	default:
		return &CorruptError{Volume: id, Image: p.image(id), Report: strings.TrimSpace(strings.TrimPrefix(err.Error(), "e2fsck: "))}
	}
}

// reportBytes is how much of a program's output an error quotes.
const reportBytes = 600

// run runs a program; its error quotes the end of what it printed. keep, if any,
// stays open in it.
func run(ctx context.Context, keep *os.File, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil { // not everybody's PATH has it
		path = "/sbin/" + name
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if keep != nil {
		cmd.ExtraFiles = []*os.File{keep}
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		text := strings.Join(strings.Fields(out.String()), " ")
		if len(text) > reportBytes {
			text = "…" + text[len(text)-reportBytes:]
		}
		return fmt.Errorf("%s: %s: %w", name, text, err)
	}
	return nil
}

// Numbers from the kernel's headers: linux/ext4.h and linux/fs.h, which
// golang.org/x/sys/unix lacks.
const (
	ext4IocResize = 0x40086610 // EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64)
	fiFreeze      = 0xc0045877 // FIFREEZE
	fiThaw        = 0xc0045878 // FITHAW
	fiTrim        = 0xc0185879 // FITRIM
	fiemap        = 0xc020660b // FS_IOC_FIEMAP
)

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// superblock is what we read of ext4's first block. Its counts of free blocks
// are right when it is not mounted.
type superblock struct{ blocks, free, overhead int64 }

// readSuperblock reads it at its offset (kernel: Documentation/filesystems/ext4).
func readSuperblock(image *os.File) (superblock, error) {
	var b [1024]byte
	if _, err := image.ReadAt(b[:], 1024); err != nil {
		return superblock{}, fmt.Errorf("read %s: %w", image.Name(), err)
	}
	const magic = 0xef53
	if binary.LittleEndian.Uint16(b[0x38:]) != magic {
		return superblock{}, fmt.Errorf("%s has no ext4 in it", image.Name())
	}
	wide := func(low, high int) int64 {
		return int64(binary.LittleEndian.Uint32(b[high:]))<<32 | int64(binary.LittleEndian.Uint32(b[low:]))
	}
	return superblock{
		blocks: wide(0x4, 0x150), free: wide(0xc, 0x158),
		overhead: int64(binary.LittleEndian.Uint32(b[0x248:])),
	}, nil
}
