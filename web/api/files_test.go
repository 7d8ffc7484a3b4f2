package api

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
)

func tusHeaders(size int, path string) []string {
	return []string{"Tus-Resumable", "1.0.0", "Upload-Length", fmt.Sprint(size),
		"Upload-Metadata", "path " + base64.StdEncoding.EncodeToString([]byte(path)), "Content-Type", "application/offset+octet-stream"}
}

// upload sends a file in one request.
func (b *box) upload(p party, volume, path, data string) reply {
	b.t.Helper()
	return b.call(p, "POST", volume+"/uploads", strings.NewReader(data), tusHeaders(len(data), path)...)
}

func TestFilesOfADriveAreUploadedListedMovedAndRemoved(t *testing.T) {
	b := newBox(t)
	for _, kind := range []string{"drives", "shared-filesystems"} {
		at := b.drive(b.alice, kind, kind+"-data", 10)
		b.call(b.alice, "GET", at+"/files", nil).want(200).has("data", []any{}, "next_cursor", nil, "total", 0)
		b.upload(b.alice, at, "models/a.bin", "0123456789").want(201)
		r := b.call(b.alice, "POST", at+"/uploads", nil, tusHeaders(4, "models/b.bin")...).want(201)
		upload := r.header.Get("Location")
		if !strings.HasPrefix(upload, at+"/uploads/") {
			t.Fatalf("the upload is at %q", upload)
		}
		b.call(b.alice, "PATCH", upload, "da", "Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream").want(204)
		if got := b.call(b.alice, "HEAD", upload, nil).want(200).header.Get("Upload-Offset"); got != "2" {
			t.Errorf("it is at %s", got)
		}
		b.call(b.alice, "DELETE", upload, nil, "Tus-Resumable", "1.0.0").want(204)
		b.call(b.alice, "PATCH", upload, "ta", "Tus-Resumable", "1.0.0", "Upload-Offset", "2", "Content-Type", "application/offset+octet-stream").refused(404, "not_found", "")

		b.call(b.alice, "GET", at+"/files?path=/models/", nil).want(200).has("data.0.name", "a.bin", "data.0.type", "file", "data.0.size", 10,
			"data.0.mode", "0644", "data.0.target", "", "data.0.leads_to", "", "data.0.addressable", true)
		b.call(b.alice, "GET", at+"/files/entry?path=models/a.bin", nil).want(200).has("name", "a.bin", "type", "file", "size", 10)
		b.call(b.alice, "GET", at+"/files/entry?path=models", nil).want(200).has("type", "folder")
		b.call(b.alice, "GET", at+"/files/entry?path=models/none", nil).refused(404, "not_found", "path")
		b.call(b.alice, "POST", at+"/files/folders", object{"path": "old/x"}).want(201).has("name", "x", "type", "folder")
		b.call(b.alice, "POST", at+"/files/folders", object{"path": "old/x"}).refused(409, "conflict", "path")
		b.call(b.alice, "POST", at+"/files/move", object{"from": "models/a.bin", "to": "old/b.bin"}).want(200).has("name", "b.bin")
		b.upload(b.alice, at, "c", "c").want(201)
		b.call(b.alice, "POST", at+"/files/move", object{"from": "c", "to": "old/b.bin"}).refused(409, "conflict", "to")
		b.call(b.alice, "POST", at+"/files/move", object{"from": "c", "to": "old/b.bin", "overwrite": true}).want(200)
		if r := b.call(b.alice, "GET", at+"/files/content?path=old/b.bin", nil).want(200); r.raw != "c" {
			t.Errorf("it has %q", r.raw)
		}
		b.call(b.alice, "GET", at+"/files/content?path=old/b.bin", nil, "Range", "bytes=9-").want(416)
		z := b.call(b.alice, "GET", at+"/files/archive", nil).want(200)
		if r, err := zip.NewReader(strings.NewReader(z.raw), int64(len(z.raw))); err != nil || len(r.File) != 4 || !strings.Contains(z.header.Get("Content-Disposition"), `-data.zip"`) {
			t.Errorf("%v %v", err, z.header)
		}
		b.call(b.alice, "DELETE", at+"/files?path=old", nil).refused(409, "conflict", "path")
		b.call(b.alice, "DELETE", at+"/files?path=old&recursive=true", nil).want(204)
		b.call(b.alice, "GET", at+"/files?path=old", nil).refused(404, "not_found", "path")
		b.call(b.alice, "GET", at+"/files?limit=1", nil).want(200).has("total", 1, "data.0.name", "models")
	}
}

func TestFilesAreTheAccountsOwn(t *testing.T) {
	b := newBox(t)
	at := b.drive(b.alice, "drives", "data", 10)
	b.upload(b.alice, at, "secret", "s").want(201)
	upload := b.call(b.alice, "POST", at+"/uploads", nil, tusHeaders(4, "b")...).want(201).header.Get("Location")
	tus := []string{"Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream"}
	for _, p := range []party{b.bob, {}} {
		status := 404
		if p.secret == "" {
			status = 401
		}
		for _, get := range []string{"/files", "/files/entry?path=secret", "/files/content?path=secret", "/files/archive"} {
			b.call(p, "GET", at+get, nil).want(status)
		}
		b.call(p, "DELETE", at+"/files?path=secret", nil).want(status)
		b.call(p, "POST", at+"/files/folders", object{"path": "x"}).want(status)
		b.call(p, "POST", at+"/files/move", object{"from": "secret", "to": "x"}).want(status)
		b.upload(p, at, "x", "x").want(status)
		b.call(p, "HEAD", upload, nil).want(status)
		b.call(p, "PATCH", upload, "evil", tus...).want(status)
		b.call(p, "DELETE", upload, nil, "Tus-Resumable", "1.0.0").want(status)
	}
	b.call(b.alice, "GET", at+"/files", nil).has("total", 1)
}

func TestADriveIsNoFilesystem(t *testing.T) {
	b := newBox(t)
	at := strings.Replace(b.drive(b.alice, "drives", "data", 10), "drives", "shared-filesystems", 1)
	b.call(b.alice, "GET", at+"/files", nil).refused(404, "not_found", "")
	b.upload(b.alice, at, "x", "x").refused(404, "not_found", "")
	b.call(b.alice, "GET", at+"/files/archive", nil).refused(404, "not_found", "")
}

func TestBadPathsAreRefusedWithTheirField(t *testing.T) {
	b := newBox(t)
	at := b.drive(b.alice, "drives", "data", 10)
	dir := b.machine.FilesOf("drive-1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/shadow", dir+"/shadow"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"../etc/shadow", "a/../../x", "shadow", "%00", "%ff", "/"} {
		r := b.call(b.alice, "GET", at+"/files/content?path="+p, nil).refused(422, "unprocessable", "path")
		if bytes.Contains([]byte(r.raw), []byte("root:")) {
			t.Errorf("%s", r.raw)
		}
	}
	b.call(b.alice, "GET", at+"/files", nil).has("data.0.type", "link", "data.0.target", "/etc/shadow", "data.0.leads_to", "")
	b.call(b.alice, "GET", at+"/files?cursor=x", nil).refused(422, "unprocessable", "cursor")
	b.call(b.alice, "GET", at+"/files?limit=1001", nil).refused(422, "unprocessable", "limit")
	b.call(b.alice, "GET", at+"/files?dir=x", nil).refused(422, "unprocessable", "dir")
	b.call(b.alice, "POST", at+"/files/move", object{"from": "shadow", "to": "../x"}).refused(422, "unprocessable", "to")
	b.call(b.alice, "POST", at+"/files/folders", object{"path": ".."}).refused(422, "unprocessable", "path")
	b.call(b.alice, "DELETE", at+"/files?recursive=true", nil).refused(422, "unprocessable", "path")
	b.upload(b.alice, at, "../x", "x").refused(422, "unprocessable", "path")
	b.call(b.alice, "GET", "/v1/drives/0/files", nil).refused(422, "unprocessable", "id")
	b.call(b.alice, "POST", "/v1/drives/x/uploads", nil, "Tus-Resumable", "1.0.0").refused(404, "not_found", "id")
	b.call(b.alice, "GET", "/v1/drives/9/files", nil).refused(404, "not_found", "")
}
