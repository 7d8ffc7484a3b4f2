package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const diskName = "fdatasync"

// disk is the floor that every contender stands on: how often a second the disk
// says that 4 KiB are safe. The file has been written before, so that no flush
// has to bring the file system's own records along.
type disk struct {
	file *os.File
	page []byte
	next int64 // where the next page goes
}

const (
	diskPage  = 4 << 10
	diskPages = 4 << 10 // 16 MiB
)

func newDisk(path string, clean *cleanup) (*disk, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	clean.add(f.Close)
	d := &disk{file: f, page: make([]byte, diskPage)}
	if _, err := rand.Read(d.page); err != nil {
		return nil, err
	}
	for range diskPages {
		if _, err := f.Write(d.page); err != nil {
			return nil, err
		}
	}
	return d, f.Sync()
}

func (d *disk) name() string { return diskName }

func (d *disk) pay(ctx context.Context, _ load, during time.Duration) (rate, error) {
	return oneAtATime(ctx, during, func() error {
		if _, err := d.file.WriteAt(d.page, d.next*diskPage); err != nil {
			return err
		}
		d.next = (d.next + 1) % diskPages
		if err := unix.Fdatasync(int(d.file.Fd())); err != nil {
			return fmt.Errorf("fdatasync: %w", err)
		}
		return nil
	})
}
