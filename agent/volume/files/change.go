package files

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Modes of what is made here, whatever the process's umask.
const (
	fileMode   = 0o644
	folderMode = 0o755
)

// Mkdir makes a folder and those above it that are not there. A folder that is
// there already is an error of the kind Exists, so that two people who make one
// know of each other.
func (v Volume) Mkdir(p string) error {
	clean, err := entry("path", p)
	if err != nil {
		return err
	}
	dir, name := split(clean)
	parent, err := v.makeAll(dir)
	if err != nil {
		return explain(err, "path", clean)
	}
	defer parent.Close()
	if err := parent.mkdir(name); err != nil {
		return explain(err, "path", clean)
	}
	return parent.Sync()
}

func (f folder) mkdir(name string) error {
	if err := unix.Mkdirat(f.fd(), name, folderMode); err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	made, err := f.sub(name)
	if err != nil {
		return err
	}
	return errors.Join(made.Chmod(folderMode), made.Close())
}

// makeAll opens a folder, and makes what is missing on the way to it. What is made
// is on disk when it returns.
func (v Volume) makeAll(clean string) (folder, error) {
	f, err := v.folder(clean)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if _, dangling := v.root.Lstat(clean); dangling == nil {
		return folder{}, fail(Conflict, "path", "%s is a link that leads nowhere, where a folder is needed", show(clean))
	}
	dir, name := split(clean)
	parent, err := v.makeAll(dir)
	if err != nil {
		return folder{}, err
	}
	defer parent.Close()
	if err := parent.mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
		return folder{}, err
	}
	if err := parent.Sync(); err != nil {
		return folder{}, err
	}
	return parent.sub(name)
}

// Move renames a file, a folder or a link, also into another folder, in one step.
// A link is moved itself, and one at the new path replaced and not followed.
// Without overwrite nothing is replaced.
func (v Volume) Move(from, to string, overwrite bool) error {
	from, err := entry("from", from)
	if err != nil {
		return err
	}
	if to, err = entry("to", to); err != nil {
		return err
	}
	if strings.HasPrefix(to, from+"/") {
		return fail(Conflict, "to", "%s can't be moved into itself", show(from))
	}
	old, name, err := v.parent(from)
	if err != nil {
		return explain(err, "from", from)
	}
	defer old.Close()
	if _, err := old.stat(name); err != nil {
		return explain(err, "from", from)
	}
	if from == to {
		return nil
	}
	next, newName, err := v.parent(to)
	if err != nil {
		return explain(err, "to", to)
	}
	defer next.Close()
	if err := move(old, name, next, newName, overwrite); err != nil {
		return explain(err, "to", to)
	}
	return errors.Join(next.Sync(), old.Sync())
}

// Remove removes a file, a link or an empty folder, and with recursive a folder
// with all that is in it. A link is removed, and not what it leads to. It ends
// with ctx, and may then be called again for the rest.
func (v Volume) Remove(ctx context.Context, p string, recursive bool) error {
	clean, err := entry("path", p)
	if err != nil {
		return err
	}
	dir, name, err := v.parent(clean)
	if err != nil {
		return explain(err, "path", clean)
	}
	defer dir.Close()
	st, err := dir.stat(name)
	if err != nil {
		return explain(err, "path", clean)
	}
	isFolder := typeOf(st) == TypeFolder
	if isFolder && recursive {
		err = dir.removeAll(ctx, name, 1)
	} else {
		err = dir.remove(name, isFolder)
	}
	if err != nil {
		return explain(err, "path", clean)
	}
	return dir.Sync()
}

// removeAll removes a folder in this one. What others put into it while it works
// is removed as well; who never stops is told so.
func (f folder) removeAll(ctx context.Context, name string, depth int) error {
	if depth > MaxDepth {
		return tooDeep()
	}
	sub, err := f.sub(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	for {
		// From the beginning each time: what is removed may move the place.
		if _, err := sub.Seek(0, 0); err != nil {
			return err
		}
		entries, err := sub.batch()
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return f.remove(name, true)
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := sub.removeEntry(ctx, e, depth); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
}

func (f folder) removeEntry(ctx context.Context, e fs.DirEntry, depth int) error {
	if e.IsDir() {
		return f.removeAll(ctx, e.Name(), depth+1)
	}
	return f.remove(e.Name(), false)
}

func tooDeep() error {
	return fail(Conflict, "path", "there are folders more than %d deep in it: work on them from inside an instance", MaxDepth)
}
