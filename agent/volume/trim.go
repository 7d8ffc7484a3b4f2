package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// trimStep is how much of a volume is without its reservation while it is
// trimmed. Config.Reserve covers it against others who fill the disk.
const trimStep = 1 << 30

// trim tells the host which blocks of a mounted volume hold nothing any more, so
// that copies leave them out and an SSD may forget them. It takes them from the
// image and reserves others at once, one step after the other.
func (p *Pool) trim(ctx context.Context, m mountPoint) error {
	dir, err := os.Open(m.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	image, err := os.OpenFile(p.image(m.volume), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer image.Close()
	st, err := image.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); at < st.Size(); at += trimStep {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		request := struct{ start, length, least uint64 }{uint64(at), trimStep, 0}
		err := retryEINTR(func() error { return ioctl(dir, fiTrim, unsafe.Pointer(&request)) })
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil // the host's file system punches no holes; copies are larger
		}
		if errors.Is(err, unix.EINVAL) && at > 0 {
			return nil // behind its end: the image has grown, and its file system will at the next mount
		}
		if err = errors.Join(err, p.fillHoles(image)); err != nil {
			return fmt.Errorf("trim volume %s: %w", m.volume, err)
		}
	}
	return nil
}
