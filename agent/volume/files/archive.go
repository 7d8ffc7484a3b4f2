package files

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/klauspost/compress/flate"
	"golang.org/x/sys/unix"
)

// Archive is a folder that is about to be written as a zip.
type Archive struct {
	Name string // of the folder; "" for the volume itself
	dir  folder
}

// Archive opens a folder. The caller closes it.
func (v Volume) Archive(p string) (*Archive, error) {
	clean, err := Clean("path", p)
	if err != nil {
		return nil, err
	}
	dir, err := v.folder(clean)
	if err != nil {
		return nil, explain(err, "path", clean)
	}
	a := &Archive{dir: dir}
	if clean != "." {
		a.Name = path.Base(clean)
	}
	return a, nil
}

// Close ends it.
func (a *Archive) Close() error { return a.dir.Close() }

// WriteTo writes the folder and all below it, as it is found, and keeps nothing on
// disk or in memory. Links are stored as links. What is no file, folder or link is
// left out, as is what goes away meanwhile; the archive's comment tells of how
// many. A file that grows is stored with the length that it had.
func (a *Archive) WriteTo(ctx context.Context, w io.Writer) error {
	z := &zipper{zip: zip.NewWriter(w), buf: make([]byte, copyBytes), hidesUploads: a.Name == ""}
	// The fast level: a checkpoint does not shrink, and the network waits for us.
	z.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestSpeed)
	})
	prefix := ""
	if a.Name != "" {
		prefix = a.Name + "/"
		if err := z.addFolder(a.dir, prefix); err != nil {
			return err
		}
	}
	if err := z.walk(ctx, a.dir, prefix, 1); err != nil {
		return err
	}
	if z.left > 0 {
		note := fmt.Sprintf("%d entries were left out: FIFOs, sockets, devices, or gone meanwhile.", z.left)
		if err := z.zip.SetComment(note); err != nil {
			return err
		}
	}
	return z.zip.Close()
}

type zipper struct {
	zip          *zip.Writer
	buf          []byte
	left         int
	hidesUploads bool
}

func (z *zipper) walk(ctx context.Context, dir folder, prefix string, depth int) error {
	if depth > MaxDepth {
		return tooDeep()
	}
	for {
		entries, err := dir.batch()
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if z.hidesUploads && depth == 1 && e.Name() == uploadFolder {
				continue
			}
			if err := z.add(ctx, dir, e.Name(), prefix, depth); err != nil {
				return err
			}
		}
	}
}

// errChanged is an entry that is not any more what it was a moment ago.
var errChanged = errors.New("changed meanwhile")

// add adds one entry. What can't be opened any more is left out; what fails
// once its header is written fails the archive.
func (z *zipper) add(ctx context.Context, dir folder, name, prefix string, depth int) error {
	st, err := dir.stat(name)
	if err != nil {
		z.left++
		return nil
	}
	switch typeOf(st) {
	case TypeFolder:
		sub, err := dir.sub(name)
		if err != nil {
			z.left++
			return nil
		}
		defer sub.Close()
		if err := z.addFolder(sub, prefix+name+"/"); err != nil {
			return err
		}
		return z.walk(ctx, sub, prefix+name+"/", depth+1)
	case TypeLink:
		return z.addLink(dir.link(name), prefix+name, st)
	case TypeFile:
		f, err := dir.open(name, unix.O_RDONLY, 0)
		if err != nil {
			z.left++
			return nil
		}
		defer f.Close()
		err = z.addFile(ctx, f, prefix+name)
		if errors.Is(err, errChanged) {
			z.left++
			err = nil
		}
		return err
	default:
		z.left++
		return nil
	}
}

func (z *zipper) addFolder(dir folder, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir.fd(), &st); err != nil {
		return err
	}
	_, err := z.zip.CreateHeader(header(name, st, fs.ModeDir, zip.Store))
	return err
}

func (z *zipper) addLink(target, name string, st unix.Stat_t) error {
	w, err := z.zip.CreateHeader(header(name, st, fs.ModeSymlink, zip.Store))
	if err == nil {
		_, err = io.WriteString(w, target)
	}
	return err
}

func (z *zipper) addFile(ctx context.Context, f *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || !isRegular(st) {
		return errChanged
	}
	w, err := z.zip.CreateHeader(header(name, st, 0, zip.Deflate))
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(cancellable{ctx, f}, st.Size), z.buf)
	return err
}

func header(name string, st unix.Stat_t, kind fs.FileMode, method uint16) *zip.FileHeader {
	h := &zip.FileHeader{Name: name, Method: method, Modified: time.Unix(st.Mtim.Unix())}
	h.SetMode(fs.FileMode(st.Mode&0o777) | kind)
	return h
}

// cancellable reads until ctx ends.
type cancellable struct {
	ctx context.Context
	io.Reader
}

func (c cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}
