package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// toll is a way to the box that counts what is sent of each file, and calls cut
// once so many bytes were.
type toll struct {
	mu   sync.Mutex
	path map[string]string // of an upload, by its address
	sent map[string]int64  // by path
	asks map[string]int    // requests that begin or go on with an upload, by path
	left int64
	cut  func()
}

func (c *toll) via(t *testing.T, to string) string {
	t.Helper()
	at, err := url.Parse(to)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(at)
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.ModifyResponse = func(r *http.Response) error {
		if at := r.Header.Get("Location"); at != "" {
			_, words, _ := strings.Cut(r.Request.Header.Get("Upload-Metadata"), "path ")
			words, _, _ = strings.Cut(words, ",")
			path, err := base64.StdEncoding.DecodeString(words)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.path[at] = string(path)
			c.asks[string(path)]++
			return err
		}
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			c.mu.Lock()
			c.asks[c.path[r.URL.Path]]++
			c.mu.Unlock()
			r.Body = &countedBody{r.Body, c, r.URL.Path}
		}
		proxy.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = proxy.ErrorLog
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

type countedBody struct {
	io.ReadCloser
	way *toll
	at  string
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.way.mu.Lock()
	defer b.way.mu.Unlock()
	b.way.sent[b.way.path[b.at]] += int64(n)
	if b.way.left -= int64(n); b.way.left <= 0 && b.way.cut != nil {
		b.way.cut()
	}
	return n, err
}

func (c *toll) bytes() (sum int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.sent {
		sum += n
	}
	return sum
}

func (c *toll) requests() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.asks)
}

// filesBelow reads a folder's files, without the uploads that are not finished.
func filesBelow(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) { // nobody has opened the drive yet
		return found
	}
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(p string, e fs.DirEntry, err error) error {
		if e != nil && e.Name() == ".ecolink-uploads" {
			return fs.SkipDir
		}
		if err != nil || e.IsDir() {
			return err
		}
		found[p], err = os.ReadFile(filepath.Join(dir, p))
		return err
	}))
	return found
}

func TestPutOfAFolderThatIsCutOffAtAnyTimeGoesOnWithTheSameCommand(t *testing.T) {
	b := newBox(t)
	b.withDrive(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	local, want, total := filepath.Join(t.TempDir(), "corpus"), map[string][]byte{}, int64(0)
	for n := range 30 {
		name := fmt.Sprintf("part-%d/%d.bin", n%4, n)
		data := noise(random.IntN(400 << 10))
		if n%10 == 0 {
			data = nil
		}
		must(t, os.MkdirAll(filepath.Join(local, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(local, name), data, 0o644))
		want["corpus/"+name] = data
		total += int64(len(data))
	}
	way := &toll{path: map[string]string{}, sent: map[string]int64{}, asks: map[string]int{}}
	t.Setenv("ECOLINK_URL", way.via(t, b.url))
	t.Setenv("ECOLINK_API_KEY", b.key)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := b.machine.FilesOf("drive-1")
	put := func(left int64) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		way.mu.Lock()
		way.left, way.cut = left, cancel
		way.mu.Unlock()
		cmd := filesCommand()
		cmd.SetArgs([]string{"put", "-r", local, "data:corpus"})
		cmd.SetErr(io.Discard)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		return cmd.ExecuteContext(ctx)
	}
	cuts := 0
	for left := 1 + random.Int64N(total/4); ; left = 1 + random.Int64N(total/4) {
		if cuts == 6 {
			left = 2 * total
		}
		finished, before := filesBelow(t, dir), way.requests()
		err := put(left)
		for name := range finished {
			if again := way.requests()[name] - before[name]; again > 0 {
				t.Errorf("%s was there, and was sent again", name)
			}
		}
		if err == nil {
			break
		}
		if cuts++; cuts > 6 {
			t.Fatalf("it never succeeds: %v", err)
		}
	}
	if cuts < 2 {
		t.Errorf("it was cut off %d times only", cuts)
	}
	got := filesBelow(t, dir)
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d files arrived of %d, or other ones", len(got), len(want))
	}
	sent := way.bytes()
	// What is on its way when a line is cut is lost, and no more than that.
	if most := total + int64(cuts)*(1<<20); sent < total || sent > most {
		t.Errorf("%d bytes were sent in all, of %d", sent, total)
	}
	before := way.requests()
	must(t, put(2*total))
	if !maps.Equal(before, way.requests()) {
		t.Error("files were sent though all was there")
	}
}

func TestPutLeavesNoMoreThanItCanTell(t *testing.T) {
	counts := &tally{}
	for n := range maxTold + 5 {
		if named := counts.leave(&takenError{place{path: fmt.Sprint("file-", n)}, "is there already"}); named != (n < maxTold) {
			t.Errorf("%d: named %t", n, named)
		}
	}
	err := counts.err()
	if err == nil || strings.Count(err.Error(), "file-") != maxTold || !strings.HasSuffix(err.Error(), "and 5 more") {
		t.Errorf("%v", err)
	}
	if code := err.(*apiError).exitCode(); code != 5 {
		t.Errorf("exit status %d", code)
	}
	if err := new(tally).err(); err != nil {
		t.Error(err)
	}
}
