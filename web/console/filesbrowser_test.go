package console

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	dialogs "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"ecolink/ledger/drives"
)

// tab is a page in a real browser, of somebody who is signed in.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string
}

func (w *world) tab(b *browser) *tab {
	w.t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			w.t.Fatal("this test needs chromium")
		}
		w.t.Skip("needs chromium")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1280, 900))
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	w.t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	w.t.Cleanup(cancel)
	tab := &tab{t: w.t, ctx: ctx, url: w.srv.URL}
	tab.do("start") // what ends this context ends the browser
	tab.ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	w.t.Cleanup(cancel)
	host, err := url.Parse(w.srv.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	tab.do("sign in", call(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, network.SetCookie, network.SetCookieParams{Name: sessionCookie, Value: b.cookies[sessionCookie], Domain: host.Hostname(), Path: "/"})
		return err
	}))
	return tab
}

func call(f func(context.Context, *chromedp.Target) error) chromedp.Action[chromedp.Void] {
	return chromedp.Func(f)
}

func (t *tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	t.t.Helper()
	if err := chromedp.Do(t.ctx, actions...); err != nil {
		text, _ := chromedp.Run(context.WithoutCancel(t.ctx), chromedp.Text(chromedp.CSS("body")))
		t.t.Fatalf("%s: %v; the page says:\n%s", what, err, text)
	}
}

func (t *tab) open(path string) chromedp.Action[chromedp.Void] {
	return chromedp.Navigate(t.url + path)
}

// until waits for an expression to be true.
func until(expression string) chromedp.Action[chromedp.Void] {
	return chromedp.Poll[chromedp.Void](expression)
}

// says waits for a text on the page.
func says(text string) chromedp.Action[chromedp.Void] {
	return until(fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// line is the network between a browser and the server: it can be slow, and be cut.
type line struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	rate     int // bytes a second towards the server; 0: as fast as it goes
	down     bool
	open     map[net.Conn]bool
	all      sync.WaitGroup
}

// through has the tab's addresses go over a line.
func (t *tab) through() *line {
	t.t.Helper()
	at, err := url.Parse(t.url)
	if err != nil {
		t.t.Fatal(err)
	}
	l := &line{to: at.Host, open: map[net.Conn]bool{}}
	if l.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.t.Fatal(err)
	}
	l.all.Go(l.run)
	t.t.Cleanup(func() { l.listener.Close(); l.set(0, true); l.all.Wait() })
	t.url = "http://" + l.listener.Addr().String()
	return l
}

func (l *line) run() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", l.to)
		if err != nil {
			c.Close()
			continue
		}
		l.mu.Lock()
		if l.down {
			c.Close()
			s.Close()
		} else {
			l.open[c], l.open[s] = true, true
			l.all.Go(func() { l.copy(s, c, true) })
			l.all.Go(func() { l.copy(c, s, false) })
		}
		l.mu.Unlock()
	}
}

func (l *line) copy(to, from net.Conn, limited bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		l.mu.Lock()
		rate := l.rate
		l.mu.Unlock()
		if limited && rate > 0 {
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
		}
	}
}

// set changes the line; one that goes down breaks all that goes over it.
func (l *line) set(rate int, down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate, l.down = rate, down
	if down {
		for c := range l.open {
			c.Close()
		}
		clear(l.open)
	}
}

// tree makes files on the browser's own disk.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, text := range files {
		put(t, dir, path, text)
	}
	return dir
}

func same(t *testing.T, dir, path, want string) {
	t.Helper()
	if raw, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(raw) != want {
		t.Errorf("%s has %d bytes, %v; it should have %d", path, len(raw), err, len(want))
	}
}

func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{3}).Read(b)
	return string(b)
}

const pickFiles = "#pick-files"

func pick(selector string, paths ...string) chromedp.Action[chromedp.Void] {
	return chromedp.SetUploadFiles(chromedp.CSS(selector), paths)
}

func TestPersonUploadsFilesAndFoldersInTheBrowser(t *testing.T) {
	w, b, d, dir := filesWorld(t)
	large := noise(3 << 20)
	local := tree(t, map[string]string{
		"one.bin": large, "ünï cöde.txt": "u", "tree/a/b/deep.txt": "deep", "tree/top.txt": "top", "tree/empty/.keep": "",
	})
	os.Remove(filepath.Join(local, "tree/empty/.keep"))
	changed := time.Date(2021, 3, 4, 5, 6, 7, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(local, "one.bin"), changed, changed); err != nil {
		t.Fatal(err)
	}
	page := w.tab(b)
	page.do("choose files",
		page.open(filesPath(d)), until("!document.querySelector('[data-pick]').hidden"),
		pick(pickFiles, filepath.Join(local, "one.bin"), filepath.Join(local, "ünï cöde.txt")),
		says("2 of 2 files"), until("document.querySelector('#browser tbody').innerText.includes('one.bin')"))
	same(t, dir, "one.bin", large)
	same(t, dir, "ünï cöde.txt", "u")
	if st, err := os.Stat(filepath.Join(dir, "one.bin")); err != nil || !st.ModTime().Equal(changed) {
		t.Errorf("the copy's last change: %v, %v; want %v", st.ModTime(), err, changed)
	}

	page.do("go into a folder without leaving the page, and drop a folder there",
		chromedp.Click(chromedp.CSS(`a[data-go][href$="path=raw"]`)), until("document.getElementById('browser').dataset.path === 'raw'"),
		says("2 of 2 files"), drop(filepath.Join(local, "tree"), filepath.Join(local, "one.bin")),
		says("5 of 5 files"), until("document.querySelector('#browser tbody').innerText.includes('tree')"))
	same(t, dir, "raw/tree/a/b/deep.txt", "deep")
	same(t, dir, "raw/tree/top.txt", "top")
	same(t, dir, "raw/one.bin", large)
	if st, err := os.Stat(filepath.Join(dir, "raw/tree/empty")); err != nil || !st.IsDir() {
		t.Errorf("the empty folder: %v", err)
	}

	put(t, local, "one.bin", "another one")
	page.do("a file that is there is replaced when one says so",
		pick(pickFiles, filepath.Join(local, "one.bin")), says("is there already"))
	same(t, dir, "raw/one.bin", large)
	page.do("replace", chromedp.Click(chromedp.CSS(`[data-state="exists"] button[aria-label^="Replace"]`)), says("6 of 6 files"))
	same(t, dir, "raw/one.bin", "another one")

	page.do("rename in a dialog",
		chromedp.Click(chromedp.CSS(`#browser a[aria-label="Rename one.bin"]`)), chromedp.WaitVisible(chromedp.CSS("#entry-name")),
		chromedp.SetValue(chromedp.CSS("#entry-name"), "tree"), chromedp.Click(chromedp.CSS("#dialog button.primary")), says("is there already:"),
		chromedp.SetValue(chromedp.CSS("#entry-name"), "two.bin"), chromedp.Click(chromedp.CSS("#dialog button.primary")),
		until("!document.getElementById('dialog').open && document.querySelector('#browser tbody').innerText.includes('two.bin')"))
	same(t, dir, "raw/two.bin", "another one")
	page.do("delete in a dialog",
		chromedp.Click(chromedp.CSS(`#browser a[aria-label="Delete tree"]`)), says("The folder and all that is in it"),
		chromedp.Click(chromedp.CSS("#dialog button.danger")), until("!document.querySelector('#browser tbody').innerText.includes('tree')"),
		says("6 of 6 files"), // the page was not left
		chromedp.NavigateBack(), until("document.getElementById('browser').dataset.path === ''"))
	if _, err := os.Stat(filepath.Join(dir, "raw/tree")); err == nil {
		t.Error("the folder is still there")
	}
}

// drop drops files and folders from the browser's own disk onto the page.
func drop(paths ...string) chromedp.Action[chromedp.Void] {
	return call(func(ctx context.Context, t *chromedp.Target) error {
		data := &input.DragData{Items: []*input.DragDataItem{}, Files: paths, DragOperationsMask: 1}
		for _, kind := range []input.DispatchDragEventType{input.DispatchDragEventTypeDragEnter, input.DispatchDragEventTypeDragOver, input.DispatchDragEventTypeDrop} {
			if _, err := cdp.Call(ctx, t, input.DispatchDragEvent, input.DispatchDragEventParams{Type: kind, X: 700, Y: 400, Data: data}); err != nil {
				return err
			}
		}
		return nil
	})
}

// upload is the one unfinished upload, and how much of it is there.
func (w *world) upload(d drives.Drive) (id string, bytes int64) {
	w.t.Helper()
	found, _ := filepath.Glob(filepath.Join(w.machine.FilesOf(d.Volume()), ".ecolink-uploads", "*.part"))
	if len(found) != 1 {
		return "", 0
	}
	if st, err := os.Stat(found[0]); err == nil {
		bytes = st.Size()
	}
	return filepath.Base(found[0]), bytes
}

func (w *world) uploaded(d drives.Drive, least int64) string {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		if id, n := w.upload(d); n >= least {
			return id
		}
		if time.Now().After(deadline) {
			w.t.Fatal("the upload does not get on")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestUploadInTheBrowserSurvivesAReloadAPauseAndALostNetwork(t *testing.T) {
	w, b, d, dir := filesWorld(t)
	data := noise(12 << 20)
	file := filepath.Join(tree(t, map[string]string{"large.bin": data}), "large.bin")
	page := w.tab(b)
	network := page.through()
	const slow = 3 << 20
	network.set(slow, false)
	choose := []chromedp.Action[chromedp.Void]{
		page.open(filesPath(d)), until("!document.querySelector('[data-pick]').hidden"), pick(pickFiles, file),
	}
	page.do("begin", choose...)
	id := w.uploaded(d, 2<<20)
	page.do("pause and go on", chromedp.Click(chromedp.CSS("[data-pause]")), says("paused"), chromedp.Click(chromedp.CSS("[data-pause]")))
	asked := page.leaves()
	page.do("choose the same file again after a reload", choose...)
	select {
	case <-asked:
	case <-time.After(patience):
		t.Error("nobody was asked whether to leave")
	}
	_, before := w.upload(d)
	if again := w.uploaded(d, before+(1<<20)); again != id {
		t.Errorf("after a reload it began anew: %s, and before %s", again, id)
	}

	page.do("pause", chromedp.Click(chromedp.CSS("[data-pause]")), says("paused"))
	paused := w.still(d)
	time.Sleep(300 * time.Millisecond)
	if _, n := w.upload(d); n != paused || paused == 0 {
		t.Errorf("paused at %d, it went on to %d", paused, n)
	}
	page.do("go on", chromedp.Click(chromedp.CSS("[data-pause]")))
	w.uploaded(d, paused+(1<<20))

	network.set(slow, true)
	cut := w.still(d)
	if again, _ := w.upload(d); again != id || cut >= int64(len(data)) {
		t.Errorf("without a network: %s at %d", again, cut)
	}
	time.Sleep(time.Second)
	network.set(0, false)
	page.do("find the network again", says("1 of 1 files"))
	same(t, dir, "large.bin", data)
	if left, _ := filepath.Glob(filepath.Join(dir, ".ecolink-uploads", "*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// leaves says yes to the browser's question whether to leave the page.
func (t *tab) leaves() (asked <-chan struct{}) {
	opening, done := chromedp.Events(t.ctx, dialogs.JavascriptDialogOpening), make(chan struct{})
	go func() {
		defer close(done)
		for _, err := range opening {
			if err == nil {
				_, err = chromedp.Call(t.ctx, dialogs.HandleJavaScriptDialog, dialogs.HandleJavaScriptDialogParams{Accept: true})
			}
			if err != nil {
				t.t.Errorf("the browser's question: %v", err)
			}
			return
		}
	}()
	return done
}

// still waits until an upload does not get on, and tells how far it is.
func (w *world) still(d drives.Drive) int64 {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, before := w.upload(d)
		time.Sleep(400 * time.Millisecond)
		if _, n := w.upload(d); n == before {
			return n
		}
		if time.Now().After(deadline) {
			w.t.Fatal("the upload goes on")
		}
	}
}

func TestUploadThatIsCancelledInTheBrowserLeavesNothing(t *testing.T) {
	w, b, d, dir := filesWorld(t)
	file := filepath.Join(tree(t, map[string]string{"large.bin": noise(8 << 20)}), "large.bin")
	page := w.tab(b)
	network := page.through()
	network.set(1<<20, false)
	page.do("begin", page.open(filesPath(d)), until("!document.querySelector('[data-pick]').hidden"), pick(pickFiles, file))
	w.uploaded(d, 1<<20)
	network.set(0, false)
	page.do("cancel", chromedp.Click(chromedp.CSS(`#uploads button[aria-label="Cancel large.bin"]`)), says("cancelled"))
	deadline := time.Now().Add(20 * time.Second)
	for {
		left, _ := filepath.Glob(filepath.Join(dir, ".ecolink-uploads", "*"))
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left: %v", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "large.bin")); err == nil {
		t.Errorf("there is a file of %d bytes", len(raw))
	}
}
