package endtoend

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tus sends a request of the tus protocol.
func (b *box) tus(method, path string, body io.Reader, header ...string) (*http.Response, error) {
	req, err := http.NewRequest(method, b.url+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.key)
	req.Header.Set("Tus-Resumable", "1.0.0")
	for n := 0; n < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return resp, err
}

// trickle is a body that comes slowly, so that there is time to kill the server.
type trickle struct{ io.Reader }

func (t trickle) Read(p []byte) (int, error) {
	time.Sleep(2 * time.Millisecond)
	return t.Reader.Read(p[:min(len(p), 32<<10)])
}

// Files are uploaded to a drive while an instance has it and writes to it, through
// a kill of the server in the middle, and are there inside, and for who asks when
// the instance is gone.
func TestFilesGoOntoADriveThatAnInstanceWritesToThroughAKill(t *testing.T) {
	b := newStorageBox(t, 1)
	var d drive
	if f := b.api(http.MethodPost, "/v1/drives", map[string]any{"name": "data", "size_gb": 1}, &d); f != nil {
		t.Fatalf("%+v", f)
	}
	path := fmt.Sprintf("/v1/drives/%d", d.ID)
	b.awaitDrive(path, "available", in("available"))
	local := t.TempDir()
	data := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{5}).Read(data)
	sum := sha256.Sum256(data)
	want := hex.EncodeToString(sum[:])
	if err := os.WriteFile(filepath.Join(local, "before.bin"), data[:1<<20], 0o644); err != nil {
		t.Fatal(err)
	}
	b.cli("files", "put", filepath.Join(local, "before.bin"), "data:sets/") // attached to nobody yet

	r := b.request("writer")
	r["drives"] = []any{map[string]any{"id": d.ID, "path": "/data"}}
	r["command"] = []string{"sh", "-c", "n=0; while :; do n=$((n+1)); echo $n >/data/count; dd if=/dev/zero of=/data/churn bs=64k count=16 2>/dev/null; sleep 0.02; done"}
	var i instance
	if f := b.api(http.MethodPost, "/v1/gpu-instances", r, &i); f != nil {
		t.Fatalf("%+v", f)
	}
	b.await(i.ID, "running")
	if got := b.sh("writer", "wc -c </data/sets/before.bin"); got != fmt.Sprint(1<<20) {
		t.Errorf("inside it has %s bytes", got)
	}

	resp, err := b.tus(http.MethodPost, path+"/uploads", nil, "Upload-Length", fmt.Sprint(len(data)),
		"Upload-Metadata", "path "+base64.StdEncoding.EncodeToString([]byte("sets/large.bin")))
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%v %v", resp, err)
	}
	at := resp.Header.Get("Location")
	sent := make(chan error, 1)
	go func() {
		_, err := b.tus(http.MethodPatch, at, trickle{bytes.NewReader(data)}, "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream")
		sent <- err
	}()
	time.Sleep(300 * time.Millisecond)
	b.kill()
	if err := <-sent; err == nil {
		t.Fatal("all was sent before the server was killed")
	}
	b.start()
	if resp, err = b.tus(http.MethodHead, at, nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", resp, err)
	}
	var offset int
	fmt.Sscan(resp.Header.Get("Upload-Offset"), &offset)
	if offset == 0 || offset >= len(data) {
		t.Errorf("after the kill it is at %d", offset)
	}
	if got := b.sh("writer", "ls /data/sets"); got != "before.bin" {
		t.Errorf("half an upload shows inside: %s", got)
	}
	resp, err = b.tus(http.MethodPatch, at, bytes.NewReader(data[offset:]), "Upload-Offset", fmt.Sprint(offset), "Content-Type", "application/offset+octet-stream")
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("%v %v", resp, err)
	}
	if got := b.sh("writer", "sha256sum </data/sets/large.bin"); !strings.HasPrefix(got, want) {
		t.Errorf("inside it is %s, not %s", got, want)
	}
	if got := b.sh("writer", "stat -c '%u %a' /data/sets/large.bin"); got != "0 644" {
		t.Errorf("its owner and mode are %s", got)
	}

	// A link that the container makes leads nowhere outside.
	b.sh("writer", "ln -s /etc/shadow /data/shadow && ln -s / /data/root && mkfifo /data/fifo")
	for _, p := range []string{"shadow", "root/etc/shadow", "fifo"} {
		if f := b.api(http.MethodGet, path+"/files/content?path="+p, nil, nil); f == nil || f.Status != 422 && f.Status != 409 {
			t.Errorf("%s: %+v", p, f)
		}
	}
	if out := b.cli("files", "ls", "data:"); !strings.Contains(out, "shadow -> /etc/shadow") || !strings.Contains(out, "count") {
		t.Errorf("listed: %s", out)
	}
	b.cli("files", "rm", "data:shadow", "data:root", "data:fifo")

	b.terminate(i.ID)
	b.awaitDrive(path, "available", in("available"))
	back := filepath.Join(local, "back.bin")
	b.cli("files", "get", "data:sets/large.bin", back)
	if raw, err := os.ReadFile(back); err != nil || !bytes.Equal(raw, data) {
		t.Errorf("%d bytes came back, %v", len(raw), err)
	}
	// Nobody looks at its files for good: it can be deleted at once.
	if f := b.api(http.MethodDelete, path, nil, nil); f != nil {
		t.Errorf("%+v", f)
	}
	b.eventually("the drive is gone", func() bool {
		f := b.api(http.MethodGet, path, nil, nil)
		return f != nil && f.Status == http.StatusNotFound
	})
}
