package console

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecolink/ledger/drives"
)

// filesWorld has a drive with a few files, as a container left them.
func filesWorld(t *testing.T) (w *world, b *browser, d drives.Drive, dir string) {
	t.Helper()
	w, b = storageWorld(t)
	d = w.makeDrive(b, drives.CloudDrive, "datasets", "10")
	dir = w.machine.FilesOf(d.Volume())
	put(t, dir, "raw/2026/train.csv", "a,b\n")
	put(t, dir, "notes.txt", "remember")
	for target, name := range map[string]string{"/etc/shadow": "shadow", "raw": "latest"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return w, b, d, dir
}

func put(t *testing.T, dir, path, text string) {
	t.Helper()
	at := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreBrowsedAndDownloadedWithoutScripts(t *testing.T) {
	_, b, d, _ := filesWorld(t)
	at := filesPath(d)
	b.get(at).want(200, "4 entries", at+"?path=raw", at+"/content?path=notes.txt", "link to /etc/shadow, which is not in this volume", at+"?path=latest", drivePath(d)+`"`).
		without("content?path=shadow").wantSafe(at)
	b.get(at+"?path=raw%2F2026").want(200, "train.csv", at+"?path=raw\"", `aria-current="page">2026`)
	b.part(at+"?path=raw").want(200, `data-path="raw"`).without("<html")
	got := b.get(at + "/content?path=raw/2026/train.csv").want(200)
	if got.body != "a,b\n" || !strings.Contains(got.header.Get("Content-Disposition"), `attachment; filename="train.csv"`) || !strings.Contains(fmt.Sprint(got.header.Values("Content-Security-Policy")), "sandbox") {
		t.Errorf("%s %v", got.body, got.header)
	}
	if zip := b.get(at + "/archive?path=raw").want(200); !strings.HasPrefix(zip.body, "PK") {
		t.Errorf("%.40q", zip.body)
	}
	b.get(at + "/content?path=shadow").want(422).without("root:")
	b.get(at+"?path=../etc").want(422, "has no &#34;..&#34; in it")
	b.get(at + "?path=none").want(404)
	b.get(at + "?cursor=x").want(422)
	b.get("/storage/99/files").want(404)
}

func TestTheFilesystemsOwnFolderIsShownOnceItHasSomething(t *testing.T) {
	_, b, d, dir := filesWorld(t)
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.get(filesPath(d)).want(200, "4 entries").without("lost+found")
	put(t, dir, "raw/lost+found/x", "")
	b.get(filesPath(d)+"?path=raw").want(200, "lost+found")
	put(t, dir, "lost+found/#12", "found")
	b.get(filesPath(d)).want(200, "5 entries", "lost+found")
}

func TestFilesAreRenamedRemovedAndFoldersMadeByForms(t *testing.T) {
	_, b, d, dir := filesWorld(t)
	at := filesPath(d)
	form := func(action, path, name string) answer {
		t.Helper()
		return b.submit(at+"/"+action+"?path="+url.QueryEscape(path), at+"/"+action, url.Values{"name": {name}})
	}
	form("folder", "raw", "new").wantRedirect(at + "?path=raw")
	form("folder", "raw", "new").want(409, "is there already")
	form("folder", "raw", "../x").want(422)
	form("folder", "raw", "").want(422, "Write a name")
	form("rename", "notes.txt", "todo.txt").wantRedirect(at)
	form("rename", "todo.txt", "/raw/2026/todo.txt").wantRedirect(at)
	form("rename", "raw/2026/todo.txt", "train.csv").want(409, "is there already", `value="train.csv"`)
	form("rename", "raw/2026", "/raw/new/2026").wantRedirect(at + "?path=raw")
	form("remove", "raw/new", "").wantRedirect(at + "?path=raw")
	form("remove", "shadow", "").wantRedirect(at)
	b.get(at + "/remove?path=").want(422)
	b.get(at + "/rename?path=none").want(404)
	b.part(at+"/remove?path=raw").want(200, "all that is in it").without("<html")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if _, err := os.Stat("/etc/shadow"); err != nil {
		t.Error(err)
	}
}

func TestForeignFilesDoNotExist(t *testing.T) {
	w, _, d, dir := filesWorld(t)
	eve := w.as("eve@example.org")
	at := filesPath(d)
	for _, p := range []string{"", "/content?path=notes.txt", "/archive", "/remove?path=notes.txt", "/rename?path=notes.txt", "/folder"} {
		eve.get(at + p).want(404).without("notes.txt")
	}
	csrf := eve.csrf("/instances")
	for _, action := range []string{"folder", "rename", "remove"} {
		eve.send("POST", at+"/"+action, url.Values{"csrf": {csrf}, "path": {"notes.txt"}, "name": {"x"}}, nil).want(404)
	}
	if _, err := os.Stat(filepath.Join(dir, "notes.txt")); err != nil {
		t.Error(err)
	}
}

func TestUploadsOfAPageNeedItsTokenItsAccountAndItsSite(t *testing.T) {
	w, b, d, dir := filesWorld(t)
	page := b.get(filesPath(d)).body
	attribute := func(name string) string {
		_, rest, _ := strings.Cut(page, name+`="`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	csrf, account := attribute("data-csrf"), attribute("data-account")
	send := func(b *browser, change func(h http.Header)) answer {
		return b.send("POST", drivePath(d)+"/uploads", nil, func(r *http.Request) {
			h := r.Header
			h.Set("Tus-Resumable", "1.0.0")
			h.Set("Upload-Length", "0")
			h.Set("Upload-Metadata", "path "+base64.StdEncoding.EncodeToString([]byte("up/empty")))
			h.Set("Accept", "application/json")
			h.Set("Sec-Fetch-Site", "same-origin")
			h.Set("X-CSRF-Token", csrf)
			h.Set("X-Ecolink-Account", account)
			change(h)
		})
	}
	for what, change := range map[string]func(http.Header){
		"no token":      func(h http.Header) { h.Del("X-CSRF-Token") },
		"a wrong token": func(h http.Header) { h.Set("X-CSRF-Token", "x") },
		"no account":    func(h http.Header) { h.Del("X-Ecolink-Account") },
		"another site":  func(h http.Header) { h.Set("Sec-Fetch-Site", "cross-site") },
	} {
		if a := send(b, change); a.status != 403 || !strings.Contains(a.body, "message") {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	if a := send(w.as("eve@example.org"), func(http.Header) {}); a.status != 403 {
		t.Errorf("with another's token: %d %s", a.status, a.body)
	}
	send(w.browser(), func(http.Header) {}).want(401)
	if _, err := os.Stat(filepath.Join(dir, "up")); err == nil {
		t.Fatal("one of them was taken")
	}
	a := send(b, func(http.Header) {}).want(201)
	if !strings.HasPrefix(a.header.Get("Location"), drivePath(d)+"/uploads/") {
		t.Errorf("it is at %s", a.header.Get("Location"))
	}
	if _, err := os.Stat(filepath.Join(dir, "up/empty")); err != nil {
		t.Error(err)
	}
}

func TestLargeFoldersComeInPages(t *testing.T) {
	_, b, d, dir := filesWorld(t)
	for n := range fileRows + 3 {
		put(t, dir, fmt.Sprintf("many/%04d", n), "")
	}
	page := b.get(filesPath(d)+"?path=many").want(200, fmt.Sprintf("%d entries", fileRows+3), "0499", "Next page").without(">0500<")
	_, rest, _ := strings.Cut(page.body, `class="pager"`)
	_, rest, _ = strings.Cut(rest, `href="`)
	next, _, _ := strings.Cut(rest, `"`)
	b.get(strings.ReplaceAll(next, "&amp;", "&")).want(200, ">0502<", "First page").without("Next page")
}

func TestNamesOfFilesAreEscaped(t *testing.T) {
	_, b, d, dir := filesWorld(t)
	const evil = `<img src=x onerror=alert(1)>"'&`
	put(t, dir, evil+"/x", "")
	put(t, dir, "bad\xff", "")
	at := filesPath(d)
	b.get(at).want(200, "not UTF-8").without("<img")
	b.get(at + "?path=" + url.QueryEscape(evil)).want(200).without("<img")
	b.get(at + "/rename?path=" + url.QueryEscape(evil)).want(200).without("<img")
}
