package files

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestUploadComesInPiecesAndIsWholeBeforeItHasItsName(t *testing.T) {
	w := newWorld(t)
	data := randomBytes(1 << 20)
	u, err := w.NewUpload("new/folder/file.bin", int64(len(data)), false, time.Time{}, now())
	must(t, err)
	for at := 0; at < len(data); at += len(data) / 10 {
		u, err = w.Upload(u.ID) // as after a restart: nothing is remembered
		must(t, err)
		if u.Offset != int64(at) || u.Path != "new/folder/file.bin" {
			t.Fatalf("at %d: %+v", at, u)
		}
		w.refused(w.FinishUpload(u), Conflict)
		if got := w.names("/"); got != "" {
			t.Fatalf("half an upload shows: %s", got)
		}
		n, err := w.WriteUpload(t.Context(), u, bytes.NewReader(data[at:min(len(data), at+len(data)/10)]))
		must(t, err)
		if n == 0 {
			t.Fatal("nothing was written")
		}
	}
	u, err = w.Upload(u.ID)
	must(t, err)
	must(t, w.FinishUpload(u))
	if w.read("new/folder/file.bin") != string(data) {
		t.Error("the file is another one")
	}
	st, err := os.Stat(w.path("new/folder/file.bin"))
	must(t, err)
	if st.Mode().Perm() != 0o644 {
		t.Errorf("its mode is %s", st.Mode())
	}
	_, err = w.Upload(u.ID)
	w.refused(err, NotFound)
	if left, err := os.ReadDir(w.path(uploadFolder)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestUploadMoreThanFitsIsRefusedBeforeAByteIsSent(t *testing.T) {
	w := newWorldOf(t, 16<<20, 256)
	before, err := w.Space()
	must(t, err)
	for _, size := range []int64{1 << 30, 1 << 60} {
		_, err := w.NewUpload("big", size, false, time.Time{}, now())
		w.refused(err, Full)
	}
	first, err := w.NewUpload("first", before.Free*2/3, false, time.Time{}, now())
	must(t, err)
	_, err = w.NewUpload("second", before.Free*2/3, false, time.Time{}, now())
	w.refused(err, Full)
	if left, _ := os.ReadDir(w.path(uploadFolder)); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
	must(t, w.CancelUpload(first.ID))
	after, err := w.Space()
	must(t, err)
	if before.Free-after.Free > 64<<10 {
		t.Errorf("cancelling gave back all but %d bytes", before.Free-after.Free)
	}
}

// The space of an upload is taken at its beginning, so that to run full in its
// middle takes a file system that has none to reserve. The user's container makes
// that: it throws away what was reserved, and fills the volume.
func TestVolumeThatIsFullInTheMiddleOfAnUploadKeepsWhatCameAndShowsNothing(t *testing.T) {
	w := newWorldOf(t, 16<<20, 256)
	space, err := w.Space()
	must(t, err)
	data := randomBytes(int(space.Free / 2))
	u, err := w.NewUpload("file", int64(len(data)), false, time.Time{}, now())
	must(t, err)
	must(t, os.Truncate(w.path(uploadFolder+"/"+u.ID+partSuffix), 0))
	fill, err := os.Create(w.path("fill"))
	must(t, err)
	must(t, unix.Fallocate(int(fill.Fd()), 0, 0, space.Free*3/4))
	must(t, fill.Close())
	n, err := w.WriteUpload(t.Context(), u, bytes.NewReader(data))
	w.refused(err, Full)
	if u, err = w.Upload(u.ID); err != nil || u.Offset != n || n == 0 {
		t.Fatalf("%d bytes written, %+v, %v", n, u, err)
	}
	if got := w.names("/"); got != "fill" {
		t.Errorf("listed: %s", got)
	}
	must(t, os.Remove(w.path("fill"))) // there is room again: it goes on
	_, err = w.WriteUpload(t.Context(), u, bytes.NewReader(data[n:]))
	must(t, err)
	u, err = w.Upload(u.ID)
	must(t, err)
	must(t, w.FinishUpload(u))
	if w.read("file") != string(data) {
		t.Error("the file is another one")
	}
}

func TestTwoUploadsToOnePathAreBothWholeAndOneWins(t *testing.T) {
	w := newWorld(t)
	a, err := w.NewUpload("file", 3, false, time.Time{}, now())
	must(t, err)
	b, err := w.NewUpload("file", 3, false, time.Time{}, now())
	must(t, err)
	_, err = w.WriteUpload(t.Context(), a, strings.NewReader("aaa"))
	must(t, err)
	_, err = w.WriteUpload(t.Context(), b, strings.NewReader("bbb"))
	must(t, err)
	must(t, w.FinishUpload(b))
	w.refused(w.FinishUpload(a), Exists)
	if got := w.read("file"); got != "bbb" {
		t.Errorf("the file has %q", got)
	}
	must(t, w.CancelUpload(a.ID))
	_, err = w.NewUpload("file", 3, false, time.Time{}, now())
	w.refused(err, Exists)
	must(t, w.upload("file", []byte("ccc"), true))
	if got := w.read("file"); got != "ccc" {
		t.Errorf("the file has %q", got)
	}
}

func TestUploadNeverReplacesAFolder(t *testing.T) {
	w := newWorld(t)
	w.put("dir/file", "x")
	w.refused(w.upload("dir", []byte("y"), true), Conflict)
	u, err := w.NewUpload("late", 1, true, time.Time{}, now())
	must(t, err)
	_, err = w.WriteUpload(t.Context(), u, strings.NewReader("y"))
	must(t, err)
	must(t, os.Mkdir(w.path("late"), 0o755))
	w.refused(w.FinishUpload(u), Conflict)
}

func TestEmptyFilesAreUploaded(t *testing.T) {
	w := newWorld(t)
	must(t, w.upload("empty", nil, false))
	if w.read("empty") != "" {
		t.Error("it is not empty")
	}
}

func TestUploadKeepsTheTimeOfItsFile(t *testing.T) {
	w := newWorldOf(t, 16<<20, 256)
	at := time.Date(2019, 3, 4, 5, 6, 7, 0, time.UTC) // so small a volume keeps whole seconds
	u, err := w.NewUpload("file", 3, false, at, now())
	must(t, err)
	_, err = w.WriteUpload(t.Context(), u, strings.NewReader("xyz"))
	must(t, err)
	u, err = w.Upload(u.ID) // as after a restart
	must(t, err)

	// While it can't end it does not count as one that stands still since 2019.
	w.put("file", "there")
	w.refused(w.FinishUpload(u), Exists)
	if left, err := w.Sweep(t.Context(), now()); err != nil || left != 2 {
		t.Errorf("%d left, %v", left, err)
	}
	must(t, os.Remove(w.path("file")))
	must(t, w.FinishUpload(u))
	if e, err := w.Stat("file"); err != nil || !e.ModTime.Equal(at) {
		t.Errorf("it is of %s, %v", e.ModTime, err)
	}

	for _, s := range []int64{MinModTime - 1, MaxModTime + 1, 1 << 60} {
		_, err := w.NewUpload("other", 3, false, time.Unix(s, 0), now())
		w.refused(err, Invalid)
	}
	for _, s := range []int64{MinModTime, MaxModTime} {
		u, err := w.NewUpload("other", 0, true, time.Unix(s, 0), now())
		must(t, err)
		must(t, w.FinishUpload(u))
	}
}

func TestUploadIsNoLongerThanItSaid(t *testing.T) {
	w := newWorld(t)
	u, err := w.NewUpload("file", 3, false, time.Time{}, now())
	must(t, err)
	if n, err := w.WriteUpload(t.Context(), u, strings.NewReader("four")); err == nil || n != 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
	_, err = w.NewUpload("file", -1, false, time.Time{}, now())
	w.refused(err, Invalid)
}

// What lies in the folder of uploads is the user's to change, who has root in a
// container: no such change leads out or blocks.
func TestUploadsThatAContainerHasTamperedWithAreNone(t *testing.T) {
	w := newWorld(t)
	outside := secrets(t)
	for what, tamper := range map[string]func(part, note string){
		"link as part":  func(part, _ string) { os.Remove(part); os.Symlink(outside+"/shadow", part) },
		"fifo as part":  func(part, _ string) { os.Remove(part); unix.Mkfifo(part, 0o644) },
		"link as note":  func(_, note string) { os.Remove(note); os.Symlink(outside+"/shadow", note) },
		"fifo as note":  func(_, note string) { os.Remove(note); unix.Mkfifo(note, 0o644) },
		"no JSON":       func(_, note string) { os.WriteFile(note, []byte("{"), 0o600) },
		"large note":    func(_, note string) { os.WriteFile(note, bytes.Repeat([]byte(" "), 1<<20), 0o600) },
		"path out":      func(_, note string) { os.WriteFile(note, []byte(`{"path":"../x","size":3}`), 0o600) },
		"absolute path": func(_, note string) { os.WriteFile(note, []byte(`{"path":"","size":3}`), 0o600) },
		"time out of bounds": func(_, note string) {
			os.WriteFile(note, []byte(`{"path":"x","size":3,"mod_time":"9999-01-01T00:00:00Z"}`), 0o600)
		},
		"negative size":  func(_, note string) { os.WriteFile(note, []byte(`{"path":"x","size":-3}`), 0o600) },
		"longer than it": func(part, _ string) { os.WriteFile(part, []byte("long"), 0o600) },
	} {
		u, err := w.NewUpload("file", 3, false, time.Time{}, now())
		must(t, err)
		base := w.path(uploadFolder + "/" + u.ID)
		tamper(base+partSuffix, base+noteSuffix)
		if got, err := w.Upload(u.ID); err == nil {
			t.Errorf("%s: %+v", what, got)
		} else {
			w.refused(err, NotFound)
		}
		if _, err := w.WriteUpload(t.Context(), u, strings.NewReader("xyz")); err != nil && errors.Is(err, io.EOF) {
			t.Error(err)
		}
		must(t, w.CancelUpload(u.ID))
	}
	must(t, os.RemoveAll(w.path(uploadFolder)))
	w.link(outside, uploadFolder)
	if _, err := w.NewUpload("file", 3, false, time.Time{}, now()); err == nil {
		t.Error("an upload was begun outside of the volume")
	}
	if _, err := w.Sweep(t.Context(), now().Add(48*time.Hour)); err == nil {
		t.Error("it was swept outside of the volume")
	}
}

func TestOnlyIDsThatWereGivenAreUploads(t *testing.T) {
	w := newWorld(t)
	_, err := w.NewUpload("file", 3, false, time.Time{}, now())
	must(t, err)
	for _, id := range []string{"", ".", "..", "../x", strings.Repeat("a", 25) + "/", strings.Repeat("a", 26), strings.Repeat("A", 26), "a\x00"} {
		_, err := w.Upload(id)
		w.refused(err, NotFound)
		if err := w.CancelUpload(id); err != nil {
			w.refused(err, NotFound)
		}
	}
}

func TestUploadsThatStandStillForADayAreSweptAway(t *testing.T) {
	w := newWorld(t)
	old, err := w.NewUpload("old", 3, false, time.Time{}, now())
	must(t, err)
	fresh, err := w.NewUpload("fresh", 3, false, time.Time{}, now())
	must(t, err)
	yesterday := now().Add(-UploadAge - time.Minute)
	base := w.path(uploadFolder) + "/"
	must(t, os.Chtimes(base+old.ID+partSuffix, yesterday, yesterday))
	must(t, os.Chtimes(base+fresh.ID+noteSuffix, yesterday, yesterday)) // as old as its bytes
	must(t, os.WriteFile(base+strings.Repeat("a", 26)+noteSuffix, []byte("{}"), 0o600))
	must(t, os.Chtimes(base+strings.Repeat("a", 26)+noteSuffix, yesterday, yesterday))
	left, err := w.Sweep(t.Context(), now())
	must(t, err)
	_, err = w.Upload(old.ID)
	w.refused(err, NotFound)
	if _, err := w.Upload(fresh.ID); err != nil || left < 2 || left > 3 {
		t.Errorf("%d left, %v", left, err)
	}
	left, err = w.Sweep(t.Context(), now().Add(2*UploadAge))
	must(t, err)
	if _, gone := os.Lstat(w.path(uploadFolder)); left != 0 || gone == nil {
		t.Errorf("%d left, and the folder: %v", left, gone)
	}
	if left, err := w.Sweep(t.Context(), now()); left != 0 || err != nil {
		t.Errorf("where nothing is: %d, %v", left, err)
	}
}

func TestUploadsBeginWhileOthersSweep(t *testing.T) {
	w := newWorld(t)
	stop := make(chan struct{})
	var sweeping sync.WaitGroup
	sweeping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = w.Sweep(t.Context(), now())
			}
		}
	})
	for range 200 {
		must(t, w.upload("file", []byte("x"), true))
	}
	close(stop)
	sweeping.Wait()
}

// A sweep must never find the part with the time of the file that it becomes: it
// would take a whole upload for one that stands still.
func TestAnOldFileIsUploadedWhileOthersSweep(t *testing.T) {
	w := newWorld(t)
	stop := make(chan struct{})
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	defer close(stop)
	sweeping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = w.Sweep(t.Context(), now())
			}
		}
	})
	at := time.Unix(1_550_000_000, 0)
	for n := range 500 {
		u, err := w.NewUpload("file", 1, true, at, now())
		must(t, err)
		_, err = w.WriteUpload(t.Context(), u, strings.NewReader("x"))
		must(t, err)
		if err := w.FinishUpload(u); err != nil {
			t.Fatalf("upload %d was swept away: %v", n, err)
		}
		if e, err := w.Stat("file"); err != nil || !e.ModTime.Equal(at) {
			t.Fatalf("it is of %s, %v", e.ModTime, err)
		}
	}
}

// A container writes into the same folder all the time.
func TestUploadGoesOnWhileAContainerWrites(t *testing.T) {
	w := newWorld(t)
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(w.path("shared/log"), bytes.Repeat([]byte{byte(n)}, 8192), 0o644)
			}
		}
	})
	data := randomBytes(4 << 20)
	must(t, w.upload("shared/file", data, false))
	close(stop)
	writing.Wait()
	if w.read("shared/file") != string(data) {
		t.Error("the file is another one")
	}
}
