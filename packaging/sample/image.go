package sample

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is an entry of an image. A path that ends in a slash is a directory; one
// with a Link is a symbolic link.
type File struct {
	Path    string
	Mode    int64
	Content []byte
	Link    string
	UID     int // and the group's
	// Capabilities is the extended attribute security.capability; empty for none.
	Capabilities string
}

// Image makes an image of one layer.
func Image(config v1.Config, files ...File) (v1.Image, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, f := range files {
		h := &tar.Header{Name: strings.TrimSuffix(f.Path, "/"), Mode: f.Mode, Size: int64(len(f.Content)), Typeflag: tar.TypeReg, Uid: f.UID, Gid: f.UID}
		if f.Capabilities != "" {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": f.Capabilities}
		}
		switch {
		case f.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		case strings.HasSuffix(f.Path, "/"):
			h.Typeflag = tar.TypeDir
			h.Name += "/"
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	raw := layer.Bytes()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	return mutate.ConfigFile(image, file)
}

// busybox is where Debian's package busybox-static puts it.
const busybox = "/bin/busybox"

// Busybox makes an image with a shell and the usual small programs, from the
// static busybox of this machine. extra files come on top.
func Busybox(extra ...File) (v1.Image, error) {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, fmt.Errorf("make an image: %w: install the package busybox-static", err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("make an image: list busybox's programs: %w", err)
	}
	files := []File{
		{Path: "bin/", Mode: 0o755}, {Path: "etc/", Mode: 0o755}, {Path: "root/", Mode: 0o700}, {Path: "tmp/", Mode: 0o1777},
		{Path: "bin/busybox", Mode: 0o755, Content: program},
		{Path: "etc/passwd", Mode: 0o644, Content: []byte("root:x:0:0:root:/root:/bin/sh\n")},
		{Path: "etc/group", Mode: 0o644, Content: []byte("root:x:0:\n")},
		{Path: "etc/profile", Mode: 0o644, Content: []byte("PS1='\\u@\\h:\\w\\$ '\n")},
	}
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			files = append(files, File{Path: "bin/" + name, Mode: 0o777, Link: "busybox"})
		}
	}
	return Image(v1.Config{Env: []string{"PATH=/bin"}}, append(files, extra...)...)
}

// Bare makes an image in which there is nothing to run, a shell least of all.
func Bare() (v1.Image, error) {
	return Image(v1.Config{}, File{Path: "etc/", Mode: 0o755}, File{Path: "etc/motd", Mode: 0o644, Content: []byte("nothing here\n")})
}
