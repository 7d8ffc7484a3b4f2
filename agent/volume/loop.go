package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// loopMajor is the number of loop devices among the kernel's block devices.
const loopMajor = 7

// attachTries bounds the race for a free loop device with other programs.
const attachTries = 64

func loopPath(number int) string { return "/dev/loop" + strconv.Itoa(number) }

func openLoop(number int) (*os.File, error) {
	return os.OpenFile(loopPath(number), os.O_RDWR, 0)
}

// attachLoop makes a loop device of an image. The device goes by itself when
// nobody has it open or mounted (autoclear), so that no crash leaves one.
// Direct I/O spares a second copy of everything in the host's memory.
func attachLoop(image *os.File) (*os.File, int, error) {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("loop devices: %w", err)
	}
	defer ctl.Close()
	for range attachTries {
		number, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, 0, fmt.Errorf("get a free loop device: %w", err)
		}
		dev, err := openLoop(number)
		if err != nil {
			return nil, 0, fmt.Errorf("loop device: %w", err)
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Size: blockSize}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
		copy(config.Info.File_name[:len(config.Info.File_name)-1], image.Name())
		err = retryEINTR(func() error { return unix.IoctlLoopConfigure(int(dev.Fd()), &config) })
		if err == nil {
			return dev, number, nil
		}
		closeErr := dev.Close()
		if !errors.Is(err, unix.EBUSY) { // another program took it
			return nil, 0, errors.Join(fmt.Errorf("make %s of %s: %w", dev.Name(), image.Name(), err), closeErr)
		}
	}
	return nil, 0, fmt.Errorf("no loop device stays free: other programs take them as fast as they appear")
}

// backs returns nil when the loop device is the volume's image.
func (p *Pool) backs(number int, id string) error {
	var want unix.Stat_t
	if err := unix.Stat(p.image(id), &want); err != nil {
		return fmt.Errorf("image of volume %s: %w", id, err)
	}
	got, err := loopBacking(number)
	if err != nil {
		return err
	}
	if got != (backing{want.Dev, want.Ino}) {
		return refuse("volume %s is mounted from something that is not its image: `losetup --all` shows what %s is", id, loopPath(number))
	}
	return nil
}

// backing names a file wherever it is moved to.
type backing struct{ dev, inode uint64 }

// loopBacking tells which file a loop device is made of.
func loopBacking(number int) (backing, error) {
	dev, err := os.OpenFile(loopPath(number), os.O_RDONLY, 0)
	if err != nil {
		return backing{}, err
	}
	defer dev.Close()
	info, err := unix.IoctlLoopGetStatus64(int(dev.Fd()))
	if err != nil {
		return backing{}, fmt.Errorf("%s: %w", dev.Name(), err)
	}
	return backing{info.Device, info.Inode}, nil
}

// loops lists the loop devices in use on this host and what each is made of, as
// the kernel names it.
func loops() (map[int]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	out := map[int]string{}
	for _, file := range files {
		number, err := strconv.Atoi(strings.TrimPrefix(strings.Split(file, "/")[3], "loop"))
		if err != nil {
			continue
		}
		name, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) {
			continue // detached meanwhile
		}
		if err != nil {
			return nil, err
		}
		out[number] = strings.TrimSpace(string(name))
	}
	return out, nil
}
