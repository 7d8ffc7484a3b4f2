package files

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func now() time.Time { return time.Now() }

func encodeKey(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

func cancelled(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// secrets makes a folder beside the volume that nothing may read or touch.
func secrets(t *testing.T) string {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "shadow"), []byte("root:secret"), 0o600))
	t.Cleanup(func() {
		raw, err := os.ReadFile(filepath.Join(dir, "shadow"))
		entries, _ := os.ReadDir(dir)
		if err != nil || string(raw) != "root:secret" || len(entries) != 1 {
			t.Errorf("what is outside of the volume was touched: %q, %v, %v", raw, err, entries)
		}
	})
	return dir
}

func TestLinksOutOfTheVolumeLeadNowhere(t *testing.T) {
	w := newWorld(t)
	outside := secrets(t)
	up := "../../../../../../../../.." + outside
	w.put("sub/file", "inside")
	w.link(outside+"/shadow", "shadow")
	w.link("/etc/shadow", "etc-shadow")
	w.link(outside, "folder")
	w.link(up+"/shadow", "climbs")
	w.link(up, "sub/climbs")
	w.link("/proc/self/root"+outside, "magic")
	w.link("/proc/self/cwd", "cwd")
	w.link("loop", "loop")
	paths := []string{"shadow", "etc-shadow", "folder/shadow", "climbs", "sub/climbs/shadow", "magic/shadow", "cwd/doc.go", "loop", "folder", "sub/climbs"}
	for _, p := range paths {
		if f, err := w.Open(p); err == nil {
			t.Errorf("%s was opened", p)
			f.Close()
		} else {
			w.refused(err, Invalid)
		}
		if _, err := w.List(t.Context(), p, "", 10); err == nil {
			t.Errorf("%s was listed", p)
		}
		if _, err := w.Archive(p); err == nil {
			t.Errorf("%s was archived", p)
		}
	}
	for _, p := range []string{"folder/new", "sub/climbs/new", "magic/new"} {
		w.refused(w.Mkdir(p), Invalid)
		w.refused(w.upload(p, []byte("x"), true), Invalid)
		w.refused(w.Move("sub/file", p, true), Invalid)
	}
	w.refused(w.Move("folder/shadow", "taken", false), Invalid)
	w.refused(w.Remove(t.Context(), "folder/shadow", true), Invalid)
	page, err := w.List(t.Context(), "", "", 20)
	must(t, err)
	for _, e := range page.Entries[1:] {
		if e.Type != TypeLink || e.Target == "" || e.Leads != "" {
			t.Errorf("%+v", e)
		}
	}
}

func TestLinksThemselvesAreReplacedMovedAndRemoved(t *testing.T) {
	w := newWorld(t)
	outside := secrets(t)
	link := func() { os.Remove(w.path("link")); w.link(outside+"/shadow", "link") }
	link()
	w.refused(w.upload("link", []byte("mine"), false), Exists)
	must(t, w.upload("link", []byte("mine"), true))
	if got := w.read("link"); got != "mine" {
		t.Errorf("the link's place has %q", got)
	}
	link()
	w.put("file", "other")
	w.refused(w.Move("file", "link", false), Exists)
	must(t, w.Move("file", "link", true))
	if got := w.read("link"); got != "other" {
		t.Errorf("the link's place has %q", got)
	}
	link()
	must(t, w.Move("link", "moved", false))
	if target, err := os.Readlink(w.path("moved")); err != nil || target != outside+"/shadow" {
		t.Errorf("moved: %q, %v", target, err)
	}
	must(t, w.Remove(t.Context(), "moved", true))
	w.link(outside, "dir")
	must(t, w.Remove(t.Context(), "dir", true))
	w.put("tree/a/b", "x")
	w.link(outside, "tree/a/out")
	w.link("../../kept", "tree/a/in")
	w.put("kept/file", "kept")
	must(t, w.Remove(t.Context(), "tree", true))
	if got := w.names("/") + " " + w.read("kept/file"); got != "kept link kept" && got != "kept kept" {
		t.Errorf("left: %s", got)
	}
}

func TestLinksInsideTheVolumeAreFollowed(t *testing.T) {
	w := newWorld(t)
	w.put("data/set/file", "inside")
	w.link("data/set", "current")
	w.link("data/set/file", "file")
	w.link("gone", "dangling")
	if w.read("current/file") != "inside" || w.read("file") != "inside" || w.names("current") != "file" {
		t.Error("a link inside was not followed")
	}
	e, err := w.Stat("current")
	must(t, err)
	if e.Type != TypeLink || e.Leads != TypeFolder || e.Target != "data/set" {
		t.Errorf("%+v", e)
	}
	must(t, w.upload("current/new", []byte("n"), false))
	if w.read("data/set/new") != "n" {
		t.Error("an upload through a link inside went elsewhere")
	}
	w.refused(w.upload("dangling/x", []byte("n"), false), Conflict)
	_, err = w.Open("dangling")
	w.refused(err, NotFound)
}

func TestArchiveStoresLinksAndLeavesOutWhatIsNoFile(t *testing.T) {
	w := newWorld(t)
	outside := secrets(t)
	w.put("tree/a.txt", strings.Repeat("text ", 1000))
	w.put("tree/deep/b", "b")
	must(t, os.Mkdir(w.path("tree/empty"), 0o700))
	w.link(outside+"/shadow", "tree/shadow")
	w.link(outside, "tree/out")
	must(t, unix.Mkfifo(w.path("tree/fifo"), 0o644))
	must(t, unix.Mknod(w.path("tree/device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	must(t, os.Link(w.path("tree/a.txt"), w.path("tree/hard")))
	z := w.zipped("tree")
	found := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		must(t, err)
		raw, err := io.ReadAll(r)
		must(t, err)
		found[f.Name] = string(raw)
		if isLink := f.Mode()&fs.ModeSymlink != 0; isLink != (f.Name == "tree/shadow" || f.Name == "tree/out") {
			t.Errorf("%s has mode %s", f.Name, f.Mode())
		}
	}
	want := map[string]string{
		"tree/": "", "tree/a.txt": strings.Repeat("text ", 1000), "tree/hard": strings.Repeat("text ", 1000), "tree/deep/": "", "tree/deep/b": "b",
		"tree/empty/": "", "tree/shadow": outside + "/shadow", "tree/out": outside,
	}
	for name, text := range want {
		if got, ok := found[name]; !ok || got != text {
			t.Errorf("%s is %.40q, %v", name, got, ok)
		}
	}
	if len(found) != len(want) || !strings.HasPrefix(z.Comment, "2 entries were left out") {
		t.Errorf("%d entries, comment %q", len(found), z.Comment)
	}
}

func (w *world) zipped(p string) *zip.Reader {
	w.t.Helper()
	a, err := w.Archive(p)
	must(w.t, err)
	defer a.Close()
	var buf bytes.Buffer
	must(w.t, a.WriteTo(w.t.Context(), &buf))
	z, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	must(w.t, err)
	return z
}

func TestArchiveOfTheVolumeHasNoUploadsInIt(t *testing.T) {
	w := newWorld(t)
	w.put("file", "x")
	_, err := w.NewUpload("half", 10, false, time.Time{}, now())
	must(t, err)
	if z := w.zipped("/"); len(z.File) != 1 || z.File[0].Name != "file" {
		t.Errorf("%d entries", len(z.File))
	}
	if got := w.names("/"); got != "file" {
		t.Errorf("listed: %s", got)
	}
}

func TestArchiveEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.put("tree/file", string(randomBytes(4<<20)))
	a, err := w.Archive("tree")
	must(t, err)
	defer a.Close()
	ctx, cancel := cancelled(t)
	err = a.WriteTo(ctx, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }))
	if err == nil {
		t.Error("it went on")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A container swaps a folder for a link to outside, and back, as fast as it can,
// while all that there is works on paths through it.
func TestFolderThatIsSwappedForALinkNeverLeadsOut(t *testing.T) {
	w := newWorld(t)
	outside := secrets(t)
	w.put("a/dir/shadow", "inside")
	must(t, os.Symlink(outside, w.path("a/link")))
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				// Exchange them: one system call, there is always one of the two.
				_ = unix.Renameat2(unix.AT_FDCWD, w.path("a/dir"), unix.AT_FDCWD, w.path("a/link"), unix.RENAME_EXCHANGE)
			}
		}
	})
	outcomes := map[bool]int{}
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); {
		f, err := w.Open("a/dir/shadow")
		outcomes[err == nil]++
		if err == nil {
			raw, _ := io.ReadAll(f)
			f.Close()
			if string(raw) != "inside" {
				t.Fatalf("read %q from outside", raw)
			}
		}
		if page, err := w.List(t.Context(), "a/dir", "", 10); err == nil {
			for _, e := range page.Entries {
				if e.Name == "shadow" && e.Size != int64(len("inside")) {
					t.Fatalf("listed from outside: %+v", e)
				}
			}
		}
		_ = w.upload("a/dir/shadow", []byte("inside"), true)
		_ = w.Mkdir("a/dir/made")
		_ = w.Remove(t.Context(), "a/dir/made", true)
		if a, err := w.Archive("a"); err == nil {
			var buf bytes.Buffer
			must(t, a.WriteTo(t.Context(), &buf))
			a.Close()
			if bytes.Contains(buf.Bytes(), []byte("secret")) {
				t.Fatal("the archive has what is outside")
			}
		}
	}
	close(stop)
	swapping.Wait()
	if outcomes[true] == 0 || outcomes[false] == 0 {
		t.Errorf("there was no race: %v", outcomes)
	}
}

func TestFIFOInThePlaceOfAFileBlocksNobody(t *testing.T) {
	w := newWorld(t)
	w.put("file", "x")
	must(t, unix.Mkfifo(w.path("fifo"), 0o644))
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, w.path("file"), unix.AT_FDCWD, w.path("fifo"), unix.RENAME_EXCHANGE)
			}
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20_000 {
			if f, err := w.Open("file"); err == nil {
				if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
					t.Errorf("opened %v, %v", st, err)
				}
				f.Close()
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("opening hangs")
	}
	close(stop)
	swapping.Wait()
}
