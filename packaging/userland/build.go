package userland

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// buildTime bounds the making of an image, so that a mirror that stalls fails
// the test that waits for it, and not the whole run.
const buildTime = 8 * time.Minute

// cached gives the layer of a variant and makes it when it is not there. What is
// in the cache is complete: it is made aside and renamed.
func cached(ctx context.Context, v Variant) (*layer, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	base = filepath.Join(base, "ecolink", "userland")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, err
	}
	s, err := readSources("/etc")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(base, v.key(s))
	if l, err := openLayer(dir); err == nil {
		return l, nil
	}
	// Test binaries run side by side: one makes it, the others wait for that.
	unlock, err := lock(filepath.Join(base, string(v)+".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if l, err := openLayer(dir); err == nil {
		return l, nil
	}
	if err := tidy(base, v); err != nil {
		return nil, err
	}
	aside := dir + ".making"
	if err := os.Mkdir(aside, 0o755); err != nil {
		return nil, err
	}
	if err := build(ctx, v, s, aside); err != nil {
		return nil, errors.Join(fmt.Errorf("make the %s image: %w", v, err), os.RemoveAll(aside))
	}
	if err := os.Rename(aside, dir); err != nil {
		return nil, err
	}
	return openLayer(dir)
}

// key names a variant's folder; another release or list of packages has another.
func (v Variant) key(s sources) string {
	h := sha256.Sum256([]byte(s.codename + " " + strings.Join(v.packages(), " ")))
	return fmt.Sprintf("%s-%s-%s", v, s.codename, hex.EncodeToString(h[:4]))
}

// tidy removes what a killed build left, and what was made for an older list.
func tidy(base string, v Variant) error {
	old, err := filepath.Glob(filepath.Join(base, string(v)+"-*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// build runs mmdebstrap. It gets mount and process namespaces of its own, so that
// however it ends, no mount and no process of it is left.
func build(ctx context.Context, v Variant, s sources, dir string) error {
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return fmt.Errorf("%w: install the package mmdebstrap", err)
	}
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	mirrors, err := s.write(tmp)
	if err != nil {
		return err
	}
	args := slices.Concat([]string{
		"--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar", "--include=" + strings.Join(v.packages(), ","),
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		s.codename, "-",
	}, mirrors)
	cmd := exec.CommandContext(ctx, "unshare", args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	archive, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	writeErr := writeLayer(dir, archive)
	if err := errors.Join(writeErr, cmd.Wait()); err != nil {
		return fmt.Errorf("mmdebstrap: %w\n%s", err, last(said.String(), 4096))
	}
	return os.RemoveAll(tmp)
}

func last(text string, n int) string { return text[max(0, len(text)-n):] }
