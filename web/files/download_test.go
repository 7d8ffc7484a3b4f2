package files

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
)

const content, archive = "/v1/drives/5/files/content?path=", "/v1/drives/5/files/archive?path="

func (w *world) put(p, text string) {
	w.t.Helper()
	must(w.t, os.MkdirAll(filepath.Dir(w.path(p)), 0o755))
	must(w.t, os.WriteFile(w.path(p), []byte(text), 0o644))
}

func TestDownloadsAreDataAndNothingElse(t *testing.T) {
	w := newWorld(t)
	w.put("evil.html", "<script>alert(1)</script>")
	w.put(`a "quoted" ünï%.txt`, "x")
	r := w.do("GET", content+"evil.html", nil).want(200)
	h := r.header
	if h.Get("Content-Type") != "application/octet-stream" || h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") ||
		!strings.HasPrefix(h.Get("Content-Disposition"), "attachment") || string(r.body) != "<script>alert(1)</script>" {
		t.Errorf("%v %s", h, r.body)
	}
	r = w.do("GET", content+"a+%22quoted%22+%C3%BCn%C3%AF%25.txt", nil).want(200)
	_, params, err := mime.ParseMediaType(r.header.Get("Content-Disposition"))
	if err != nil || params["filename"] != `a "quoted" ünï%.txt` {
		t.Errorf("%s: %v, %v", r.header.Get("Content-Disposition"), params, err)
	}
	w.do("HEAD", content+"evil.html", nil).want(200)
}

func TestDownloadThatBrokeOffGoesOn(t *testing.T) {
	w := newWorld(t)
	w.put("file", "0123456789")
	whole := w.do("GET", content+"file", nil).want(200)
	etag := whole.header.Get("ETag")
	part := w.do("GET", content+"file", nil, "Range", "bytes=4-", "If-Range", etag).want(206)
	if string(part.body) != "456789" || part.header.Get("Content-Range") != "bytes 4-9/10" {
		t.Errorf("%s %v", part.body, part.header)
	}
	w.do("GET", content+"file", nil, "If-None-Match", etag).want(304)
	w.do("GET", content+"file", nil, "Range", "bytes=20-").want(416)
	time.Sleep(10 * time.Millisecond) // a tick of the file system's clock
	at, err := os.Stat(w.path("file"))
	must(t, err)
	w.put("file", "abcdefghij")
	must(t, os.Chtimes(w.path("file"), at.ModTime(), at.ModTime())) // as rsync does
	again := w.do("GET", content+"file", nil, "Range", "bytes=4-", "If-Range", etag).want(200)
	if string(again.body) != "abcdefghij" {
		t.Errorf("the halves of two files were joined: %s", again.body)
	}
}

func TestOnlyFilesOfTheVolumeAreSent(t *testing.T) {
	w := newWorld(t)
	must(t, os.Symlink("/etc/shadow", w.path("shadow")))
	must(t, os.Symlink("/etc", w.path("etc")))
	w.put("dir/file", "x")
	for p, status := range map[string]int{"shadow": 422, "etc/shadow": 422, "../etc/shadow": 422, "none": 404, "dir": 409, "": 422, ".ecolink-uploads/x": 404} {
		if r := w.do("GET", content+p, nil); r.status != status || bytes.Contains(r.body, []byte("root:")) {
			t.Errorf("%s: %d %s", p, r.status, r.body)
		}
	}
	for p, status := range map[string]int{"etc": 422, "none": 404, "dir/file": 409, "shadow": 422} {
		if r := w.do("GET", archive+p, nil); r.status != status {
			t.Errorf("archive of %s: %d %s", p, r.status, r.body)
		}
	}
}

func TestFolderIsSentAsAZip(t *testing.T) {
	w := newWorld(t)
	w.put("dir/a", "A")
	w.put("dir/b/c", "C")
	must(t, os.Symlink("/etc/shadow", w.path("dir/shadow")))
	for p, want := range map[string]string{"dir": "dir.zip dir/ dir/a dir/b/ dir/b/c dir/shadow", "": "dataset.zip dir/ dir/a dir/b/ dir/b/c dir/shadow"} {
		r := w.do("GET", archive+p, nil).want(200)
		z, err := zip.NewReader(bytes.NewReader(r.body), int64(len(r.body)))
		must(t, err)
		_, params, _ := mime.ParseMediaType(r.header.Get("Content-Disposition"))
		found := map[string]bool{params["filename"]: true}
		for _, f := range z.File {
			found[f.Name] = true
			if rc, err := f.Open(); err != nil {
				t.Error(err)
			} else if raw, _ := io.ReadAll(rc); f.Name == "dir/shadow" && string(raw) != "/etc/shadow" {
				t.Errorf("the link has %q", raw)
			}
		}
		for name := range strings.FieldsSeq(want) {
			if !found[name] {
				t.Errorf("%q: %s is missing in %v", p, name, found)
			}
		}
		if len(found) != len(strings.Fields(want)) {
			t.Errorf("%q: %v", p, found)
		}
	}
}

func TestArchivesAreNotMadeWithoutAnEnd(t *testing.T) {
	w := newWorld(t)
	w.put("dir/a", "A")
	var open []*Download
	for range maxAccountArchives {
		d, err := w.files.Archive(t.Context(), account, 5, "dir", "x")
		must(t, err)
		open = append(open, d)
	}
	w.do("GET", archive+"dir", nil).refused(503, "unavailable")
	// Other accounts have room, until there is none for anybody.
	for n := range maxArchives - maxAccountArchives {
		if most := w.files.archives.take(100 + identity.AccountID(n)); most != 0 {
			t.Fatalf("there is no place for account %d: %d", 100+n, most)
		}
	}
	if most := w.files.archives.take(99); most != maxArchives {
		t.Errorf("one more: %d", most)
	}
	for n := range maxArchives - maxAccountArchives {
		w.files.archives.release(100 + identity.AccountID(n))
	}
	for _, d := range open {
		d.Close()
	}
	w.do("GET", archive+"none", nil).refused(404, "not_found")
	w.do("GET", archive+"dir", nil).want(200)
}

func TestDownloadEndsWithItsClient(t *testing.T) {
	w := newWorld(t)
	must(t, os.Mkdir(w.path("dir"), 0o755))
	must(t, os.WriteFile(w.path("dir/large"), randomBytes(16<<20), 0o644))
	for _, path := range []string{content + "dir/large", archive + "dir"} {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", w.http.URL+path, nil)
		must(t, err)
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		_, err = io.ReadFull(resp.Body, make([]byte, 1000))
		must(t, err)
		cancel()
		resp.Body.Close()
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		w.volumes.mu.Lock()
		open := w.volumes.open
		w.volumes.mu.Unlock()
		if open == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d volumes are still open", open)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
