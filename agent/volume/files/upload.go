package files

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Upload is a file that comes in pieces. Until it is finished its bytes are in
// uploadFolder as ID.part, and what it is to become beside it as ID.json. How many
// bytes are there is the length of the file itself, so that after a crash nobody
// has to remember.
type Upload struct {
	ID        string `json:"-"`
	Path      string `json:"path"`      // where it goes
	Overwrite bool   `json:"overwrite"` // what is there
	Size      int64  `json:"size"`      // when whole
	// ModTime is the file's time of modification, as whoever sends it knows it; the
	// zero time for that of its last byte here.
	ModTime time.Time `json:"mod_time,omitzero"`
	Created time.Time `json:"created"`
	Offset  int64     `json:"-"` // bytes that are here
}

const (
	partSuffix = ".part"
	noteSuffix = ".json"
)

// NewUpload begins an upload. The space for all of it is taken at once: who has
// not enough learns it before sending a byte, and two uploads don't race for the
// last of it. modTime is what Upload.ModTime says.
func (v Volume) NewUpload(p string, size int64, overwrite bool, modTime, now time.Time) (Upload, error) {
	clean, err := entry("path", p)
	if err != nil {
		return Upload{}, err
	}
	if size < 0 {
		return Upload{}, fail(Invalid, "Upload-Length", "a file has a length of 0 or more")
	}
	if !canBeModTime(modTime) {
		return Upload{}, fail(Invalid, "Upload-Metadata", "mtime lies between %s and %s", atSecond(MinModTime), atSecond(MaxModTime))
	}
	if err := v.mayBecome(clean, overwrite); err != nil {
		return Upload{}, err
	}
	u := Upload{ID: strings.ToLower(rand.Text()), Path: clean, Overwrite: overwrite, Size: size, ModTime: modTime, Created: now.UTC()}
	// The folder of uploads may be swept away between its opening and its use.
	err = v.begin(u)
	for n := 1; n < beginTries && errors.Is(err, fs.ErrNotExist); n++ {
		err = v.begin(u)
	}
	if err != nil {
		return Upload{}, explain(err, "path", clean)
	}
	return u, nil
}

func canBeModTime(t time.Time) bool {
	return t.IsZero() || t.Unix() >= MinModTime && t.Unix() <= MaxModTime
}

func atSecond(s int64) string { return time.Unix(s, 0).UTC().Format(time.RFC3339) }

func (v Volume) begin(u Upload) error {
	dir, err := v.uploads(true)
	if err != nil {
		return explain(err, "path", uploadFolder)
	}
	defer dir.Close()
	if err := dir.hasRoomForUploads(); err != nil {
		return err
	}
	if err := dir.begin(u); err != nil {
		_ = dir.forget(u.ID) // what stays is swept
		return err
	}
	return nil
}

// mayBecome looks whether an upload can get its name, as far as one can tell now.
func (v Volume) mayBecome(clean string, overwrite bool) error {
	at, err := v.root.Lstat(clean)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return explain(err, "path", clean)
	case at.IsDir():
		return explain(unix.EISDIR, "path", clean)
	case !overwrite:
		return explain(unix.EEXIST, "path", clean)
	}
	return nil
}

// uploads opens the folder of unfinished uploads, and makes it when asked.
func (v Volume) uploads(create bool) (folder, error) {
	root, err := v.folder(".")
	if err != nil {
		return folder{}, err
	}
	defer root.Close()
	dir, err := root.sub(uploadFolder)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err = unix.Mkdirat(root.fd(), uploadFolder, 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			dir, err = root.sub(uploadFolder)
		}
	}
	return dir, err
}

func (f folder) hasRoomForUploads() error {
	n := 0
	for {
		entries, err := f.batch()
		if err != nil || len(entries) == 0 {
			return err
		}
		if n += len(entries); n >= 2*maxUploads {
			return fail(Conflict, "", "%d uploads into this volume are not finished: go on with them or cancel them; what stands still for a day goes away", maxUploads)
		}
	}
}

func (f folder) begin(u Upload) error {
	note, err := json.Marshal(u)
	if err != nil {
		return err
	}
	part, err := f.open(u.ID+partSuffix, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer part.Close()
	if err := f.reserve(part, u.Size); err != nil {
		return err
	}
	w, err := f.open(u.ID+noteSuffix, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(note)
	return errors.Join(err, w.Close())
}

// reserve takes the space of a file that has no bytes yet, where the file system
// can; elsewhere it looks whether there is enough.
func (f folder) reserve(part *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	space, err := f.space()
	if err != nil {
		return err
	}
	if size > space.Free {
		return fail(Full, "Upload-Length", "the file has %d bytes and the volume has room for %d: remove something from it, or grow it", size, space.Free)
	}
	err = unix.Fallocate(int(part.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	if errors.Is(err, unix.EFBIG) {
		return fail(Full, "Upload-Length", "a file of %d bytes is more than the volume's file system can hold", size)
	}
	return err
}

func noUpload(id string) error {
	return fail(NotFound, "", "there is no upload %s here: it is finished, was cancelled, or stood still for a day; begin again", show(id))
}

// isUploadID keeps what a caller sends from being anything but a name that was
// made here (rand.Text).
func isUploadID(id string) bool {
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(id) == len(rand.Text())
}

// Upload reads how far an upload is.
func (v Volume) Upload(id string) (Upload, error) {
	dir, err := v.openUploads(id)
	if err != nil {
		return Upload{}, err
	}
	defer dir.Close()
	return dir.upload(id)
}

func (v Volume) openUploads(id string) (folder, error) {
	if !isUploadID(id) {
		return folder{}, noUpload(id)
	}
	dir, err := v.uploads(false)
	if errors.Is(err, fs.ErrNotExist) {
		err = noUpload(id)
	}
	return dir, explain(err, "path", uploadFolder)
}

// upload reads an upload's note and length. The note lies where the user's
// containers can write, so that it is checked as if it came from them.
func (f folder) upload(id string) (Upload, error) {
	u, err := f.note(id)
	if err != nil {
		return Upload{}, noUpload(id)
	}
	st, err := f.stat(id + partSuffix)
	if err != nil || !isRegular(st) {
		return Upload{}, noUpload(id)
	}
	if u.Path, err = entry("path", u.Path); err != nil || u.Size < 0 || st.Size > u.Size || !canBeModTime(u.ModTime) {
		return Upload{}, noUpload(id)
	}
	u.ID, u.Offset = id, st.Size
	return u, nil
}

func (f folder) note(id string) (u Upload, err error) {
	note, err := f.openRegular(id+noteSuffix, unix.O_RDONLY)
	if err != nil {
		return u, err
	}
	defer note.Close()
	raw, err := io.ReadAll(io.LimitReader(note, maxNoteBytes))
	if err == nil {
		err = json.Unmarshal(raw, &u)
	}
	return u, err
}

func (f folder) openRegular(name string, flags int) (*os.File, error) {
	file, err := f.open(name, flags, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || !isRegular(st) {
		file.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOENT}
	}
	return file, nil
}

// WriteUpload appends to an upload what src has, which must not be more than is
// missing, and tells how much of it arrived; that much is kept also when there is
// an error. One call at a time for each upload.
func (v Volume) WriteUpload(ctx context.Context, u Upload, src io.Reader) (int64, error) {
	dir, err := v.openUploads(u.ID)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	part, err := dir.openRegular(u.ID+partSuffix, unix.O_WRONLY)
	if err != nil {
		return 0, noUpload(u.ID)
	}
	defer part.Close()
	n, err := io.CopyBuffer(&appender{file: part, at: u.Offset, end: u.Size}, struct{ io.Reader }{cancellable{ctx, src}}, make([]byte, copyBytes))
	return n, explain(err, "path", u.Path)
}

// appender writes at an offset, and has the disk begin with what is written, so
// that the flush at the end is a short one.
type appender struct {
	file        *os.File
	at, end     int64
	sinceDirect int64
}

func (a *appender) Write(p []byte) (int, error) {
	if int64(len(p)) > a.end-a.at {
		return 0, fmt.Errorf("an upload of %d bytes is longer than that", a.end)
	}
	n, err := a.file.WriteAt(p, a.at)
	a.at += int64(n)
	if a.sinceDirect += int64(n); a.sinceDirect >= writebackBytes {
		// A hint: what it can't do, the flush at the end does.
		_ = unix.SyncFileRange(int(a.file.Fd()), a.at-a.sinceDirect, a.sinceDirect, unix.SYNC_FILE_RANGE_WRITE)
		a.sinceDirect = 0
	}
	return n, err
}

// FinishUpload gives a whole upload its name. It is on disk then, and what was
// there before is there until that moment. The folders of its path are made.
func (v Volume) FinishUpload(u Upload) error {
	dir, err := v.openUploads(u.ID)
	if err != nil {
		return err
	}
	defer dir.Close()
	part, err := dir.openRegular(u.ID+partSuffix, unix.O_WRONLY)
	if err != nil {
		return noUpload(u.ID)
	}
	defer part.Close()
	at, err := part.Stat()
	if err != nil {
		return err
	}
	if at.Size() != u.Size {
		return fail(Conflict, "Upload-Offset", "%d of %d bytes are here: send the rest", at.Size(), u.Size)
	}
	if err := errors.Join(part.Chmod(fileMode), part.Sync()); err != nil {
		return explain(err, "path", u.Path)
	}
	folderPath, name := split(u.Path)
	target, err := v.makeAll(folderPath)
	if err != nil {
		return explain(err, "path", u.Path)
	}
	defer target.Close()
	if err := move(dir, u.ID+partSuffix, target, name, u.Overwrite); err != nil {
		return explain(err, "path", u.Path)
	}
	// Only now: a part that is as old as the file would be swept away as one that
	// stands still. The flush of the target takes this one's time along.
	return explain(errors.Join(setModTime(part, u.ModTime), target.Sync(), dir.forget(u.ID)), "path", u.Path)
}

// setModTime sets the time of modification of an open file, whatever its name has
// become; the zero time leaves it.
func setModTime(f *os.File, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	return os.Chtimes(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), time.Time{}, t)
}

// CancelUpload removes an upload and gives its space back.
func (v Volume) CancelUpload(id string) error {
	dir, err := v.openUploads(id)
	if err != nil {
		return err
	}
	defer dir.Close()
	return explain(dir.forget(id), "path", uploadFolder)
}

func (f folder) forget(id string) error {
	var errs []error
	for _, suffix := range []string{partSuffix, noteSuffix} {
		if err := f.remove(id+suffix, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
