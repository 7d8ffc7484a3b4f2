package files

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/agent/volume/files"
	"ecolink/ledger/store"
	"ecolink/scheduler"
)

// cut sends the beginning of a PATCH and then drops the connection, as a network
// does that goes away.
func (w *world) cut(at string, offset int, data []byte, send int) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.http.Listener.Addr().String())
	must(w.t, err)
	defer c.Close()
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: %d\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: %d\r\n\r\n",
		at, offset, len(data)-offset)
	_, err = c.Write(data[offset : offset+send])
	must(w.t, err)
}

// settled waits until an upload has what was sent. It looks at the disk: to ask
// with HEAD would end the request that is still bringing it.
func (w *world) settled(at string, want int) {
	w.t.Helper()
	part := w.path(".ecolink-uploads/" + at[strings.LastIndexByte(at, '/')+1:] + ".part")
	deadline := time.Now().Add(20 * time.Second)
	for {
		st, err := os.Stat(part)
		must(w.t, err)
		if st.Size() == int64(want) {
			break
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d bytes are there, %d were sent", st.Size(), want)
		}
		time.Sleep(2 * time.Millisecond)
	}
	if got := w.offset(at); got != want {
		w.t.Fatalf("it is said to be at %d, not %d", got, want)
	}
}

func TestUploadThatIsCutOffAtEveryTenthGoesOnAndIsByteEqual(t *testing.T) {
	w := newWorld(t)
	data := randomBytes(5<<20 + 123)
	at := w.begin("models/large.bin", len(data), false)
	tenth := len(data) / 10
	for offset := 0; offset < 9*tenth; offset += tenth {
		w.cut(at, offset, data, tenth)
		w.settled(at, offset+tenth)
		if offset == 4*tenth {
			w.stop()
			w.start()
		}
		if got := w.names(); got != "" {
			t.Fatalf("half an upload shows: %s", got)
		}
	}
	r := w.patch(at, 9*tenth, data[9*tenth:]).want(204)
	if got := r.header.Get("Upload-Offset"); got != fmt.Sprint(len(data)) {
		t.Errorf("it is at %s", got)
	}
	w.wantFile("models/large.bin", data)
}

func TestUploadBeginsWithItsBytes(t *testing.T) {
	w := newWorld(t)
	data := []byte("all of it")
	r := w.do("POST", uploads, bytes.NewReader(data), "Tus-Resumable", "1.0.0", "Upload-Length", "9", "Upload-Metadata", metadata("ünï/ß.txt", false),
		"Content-Type", "application/offset+octet-stream").want(201)
	if r.header.Get("Upload-Offset") != "9" {
		t.Errorf("header %v", r.header)
	}
	w.wantFile("ünï/ß.txt", data)
	w.begin("empty", 0, false)
	w.wantFile("empty", nil)
}

func TestUploadKeepsTheTimeThatItsMetadataHas(t *testing.T) {
	w := newWorld(t)
	try := func(mtime string) reply {
		return w.do("POST", uploads, nil, "Tus-Resumable", "1.0.0", "Upload-Length", "0",
			"Upload-Metadata", metadata("file", true)+",mtime "+base64.StdEncoding.EncodeToString([]byte(mtime)))
	}
	try("2019-03-04T07:06:07+02:00").want(201)
	st, err := os.Stat(w.path("file"))
	must(t, err)
	if want := time.Date(2019, 3, 4, 5, 6, 7, 0, time.UTC); !st.ModTime().Equal(want) {
		t.Errorf("it is of %s", st.ModTime())
	}
	for _, bad := range []string{"yesterday", "1551675967", "9999-01-01T00:00:00Z", "1066-10-14T09:00:00Z"} {
		try(bad).refused(422, "unprocessable")
	}
}

func TestInterruptedUploadDoesNoHarmToTheNextRequestOnItsConnection(t *testing.T) {
	for what, c := range map[string]struct {
		before  func(out *translator) // the other request comes
		passed  bool                  // the deadline is one that passes
		closing bool
	}{
		"while it is read": {func(*translator) {}, true, true},
		"once it is read": {func(out *translator) {
			_, err := io.Copy(io.Discard, body{io.NopCloser(strings.NewReader("x")), out})
			must(t, err)
		}, false, false},
		"once it is answered": {func(out *translator) { out.WriteHeader(204) }, false, false},
	} {
		recorder, set := httptest.NewRecorder(), []time.Time(nil)
		out := &translator{ResponseWriter: deadlines{recorder, &set}}
		c.before(out)
		must(t, http.NewResponseController(out).SetReadDeadline(time.Now()))
		if passed := len(set) > 0 && !set[0].IsZero(); passed != c.passed {
			t.Errorf("%s: set to %v", what, set)
		}
		if out.WriteHeader(204); (recorder.Header().Get("Connection") == "close") != c.closing {
			t.Errorf("%s: answered with %v", what, recorder.Header())
		}
	}
}

type deadlines struct {
	http.ResponseWriter
	set *[]time.Time
}

func (d deadlines) SetReadDeadline(at time.Time) error { *d.set = append(*d.set, at); return nil }

// A browser that vanishes says nothing: its connection stays. Who comes back goes
// on at once all the same.
func TestUploadOfABrowserThatVanishedGoesOnElsewhere(t *testing.T) {
	w := newWorld(t)
	data := randomBytes(1 << 20)
	at := w.begin("file", len(data), false)
	c, err := net.Dial("tcp", w.http.Listener.Addr().String())
	must(t, err)
	defer c.Close()
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: %d\r\n\r\n", at, len(data))
	_, err = c.Write(data[:1000])
	must(t, err)
	begun := time.Now()
	w.settled(at, 1000)
	if waited := time.Since(begun); waited > 10*time.Second {
		t.Errorf("it took %s", waited)
	}
	w.patch(at, 1000, data[1000:]).want(204)
	w.wantFile("file", data)
}

func TestEndOfAnUploadIsRememberedForWhoMissedTheAnswer(t *testing.T) {
	w := newWorld(t)
	data := randomBytes(1000)
	at := w.begin("file", len(data), false)
	w.patch(at, 0, data).want(204)
	if got := w.offset(at); got != len(data) {
		t.Errorf("it is at %d", got)
	}
	w.patch(at, len(data), nil).want(204)
	w.do("DELETE", at, nil, "Tus-Resumable", "1.0.0").refused(404, "not_found")
	w.wantFile("file", data)
}

// EcoLink died when all bytes were there and the file did not have its name yet.
func TestUploadWhoseEndWasCutOffEndsWhenAskedFor(t *testing.T) {
	w := newWorld(t)
	at := w.begin("file", 4, false)
	id := at[strings.LastIndexByte(at, '/')+1:]
	must(t, os.WriteFile(w.path(".ecolink-uploads/"+id+".part"), []byte("data"), 0o600))
	if got := w.offset(at); got != 4 {
		t.Errorf("it is at %d", got)
	}
	w.wantFile("file", []byte("data"))
}

func TestTwoUploadsToOnePathAreBothWholeAndOneIsRefused(t *testing.T) {
	w := newWorld(t)
	a, b := w.begin("file", 3, false), w.begin("file", 3, false)
	w.patch(a, 0, []byte("aaa")).want(204)
	w.patch(b, 0, []byte("bbb")).refused(409, "conflict")
	w.wantFile("file", []byte("aaa"))
	w.do("HEAD", b, nil).want(409)
	w.do("DELETE", b, nil, "Tus-Resumable", "1.0.0").want(204)
	w.do("HEAD", b, nil).want(404)
	w.try("file", 3, false).refused(409, "conflict")
	w.patch(w.begin("file", 3, true), 0, []byte("ccc")).want(204)
	w.wantFile("file", []byte("ccc"))
}

func TestManyUploadsToOnePathLeaveOneWholeFile(t *testing.T) {
	w := newWorld(t)
	const n, size = 8, 300_000
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			at := w.begin("file", size, true)
			data := bytes.Repeat([]byte{byte('a' + i)}, size)
			w.patch(at, 0, data).want(204)
		})
	}
	all.Wait()
	raw, err := os.ReadFile(w.path("file"))
	must(t, err)
	if len(raw) != size || !bytes.Equal(raw, bytes.Repeat(raw[:1], size)) {
		t.Errorf("the file is a mixture, of %d bytes", len(raw))
	}
}

func TestUploadThatDoesNotFitIsRefusedBeforeAByteIsSent(t *testing.T) {
	w := newWorldOf(t, 16<<20)
	r := w.try("big", 1<<40, false).refused(507, "volume_full")
	if !strings.Contains(string(r.body), "has room for") {
		t.Errorf("%s", r.body)
	}
}

func TestVolumeThatRunsFullStopsTheUploadWithItsReason(t *testing.T) {
	w := newWorldOf(t, 16<<20)
	var before, after unix.Statfs_t
	must(t, unix.Statfs(w.at, &before))
	data := randomBytes(8 << 20)
	at := w.begin("file", len(data), false)
	id := at[strings.LastIndexByte(at, '/')+1:]
	// A container gives back what was reserved, and fills the volume itself.
	must(t, os.Truncate(w.path(".ecolink-uploads/"+id+".part"), 0))
	fill, err := os.Create(w.path("fill"))
	must(t, err)
	must(t, unix.Fallocate(int(fill.Fd()), 0, 0, int64(before.Bavail)*before.Bsize-(4<<20)))
	must(t, fill.Close())
	w.patch(at, 0, data).refused(507, "volume_full")
	if got := w.names(); got != "fill" {
		t.Errorf("it shows: %s", got)
	}
	kept := w.offset(at)
	if kept == 0 || kept >= len(data) {
		t.Errorf("%d bytes were kept", kept)
	}
	w.do("DELETE", at, nil, "Tus-Resumable", "1.0.0").want(204)
	must(t, os.Remove(w.path("fill")))
	must(t, unix.Statfs(w.at, &after))
	if lost := int64(before.Bavail-after.Bavail) * before.Bsize; lost > 64<<10 {
		t.Errorf("%d bytes did not come back", lost)
	}
}

func TestNoUploadLeadsOutOfTheVolume(t *testing.T) {
	w := newWorld(t)
	outside := t.TempDir()
	must(t, os.Symlink(outside, w.path("out")))
	must(t, os.Symlink("/etc/shadow", w.path("shadow")))
	must(t, os.Symlink("/proc/self/root"+outside, w.path("magic")))
	for _, p := range []string{"../x", "a/../../x", "out/x", "magic/x", ".ecolink-uploads/x", "/", "", "a\x00b", strings.Repeat("x/", 3000)} {
		r := w.try(p, 1, true)
		if r.status == 201 { // a link shows only when the file gets its name
			r = w.patch(r.header.Get("Location"), 0, []byte("x"))
		}
		if r.status != 422 && r.status != 404 {
			t.Errorf("%.40q: %d %s", p, r.status, r.body)
		}
	}
	w.try("shadow", 1, false).refused(409, "conflict")
	w.patch(w.begin("shadow", 1, true), 0, []byte("x")).want(204)
	if st, err := os.Lstat(w.path("shadow")); err != nil || !st.Mode().IsRegular() {
		t.Errorf("the link was not replaced: %v, %v", st, err)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("outside: %v", left)
	}
}

func TestUploadsAreRefusedInTheOneShape(t *testing.T) {
	w := newWorld(t)
	at := w.begin("file", 10, false)
	version := []string{"Tus-Resumable", "1.0.0"}
	w.do("POST", uploads, nil).refused(412, "unsupported_version")
	w.do("POST", uploads, nil, append(version, "Upload-Metadata", metadata("x", false))...).refused(400, "invalid_request")
	w.do("POST", uploads, nil, append(version, "Upload-Length", "-1")...).refused(400, "invalid_request")
	w.do("POST", uploads, nil, append(version, "Upload-Length", "1")...).refused(422, "unprocessable")
	w.do("POST", uploads, nil, append(version, "Upload-Length", "1", "Upload-Metadata", "path eA==,overwrite bWF5YmU=")...).refused(422, "unprocessable")
	w.do("POST", uploads, nil, append(version, "Upload-Defer-Length", "1")...).refused(501, "not_implemented")
	w.patch(at, 3, []byte("x")).refused(409, "conflict")
	w.patch(at, 0, make([]byte, 11)).refused(413, "request_too_large")
	w.do("PATCH", at, strings.NewReader("x"), append(version, "Upload-Offset", "0")...).refused(400, "invalid_request")
	w.patch(uploads+"/"+strings.Repeat("a", 26), 0, nil).refused(404, "not_found")
	w.patch(uploads+"/..%2f..%2fx", 0, nil).refused(404, "not_found")
	w.do("GET", at, nil).refused(405, "method_not_allowed")
	w.do("POST", at, nil, append(version, "X-HTTP-Method-Override", "DELETE")...).refused(405, "method_not_allowed")
	w.do("POST", "/v1/drives/6/uploads", nil, append(version, "Upload-Length", "1", "Upload-Metadata", metadata("x", false))...).refused(404, "not_found")
	w.do("OPTIONS", uploads, nil).want(200)
	if got := w.offset(at); got != 0 {
		t.Errorf("it is at %d", got)
	}
}

func TestOneUploadIsWrittenByOneRequestAtATime(t *testing.T) {
	w := newWorld(t)
	data := randomBytes(2 << 20)
	at := w.begin("file", len(data), false)
	c, err := net.Dial("tcp", w.http.Listener.Addr().String())
	must(t, err)
	defer c.Close()
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: %d\r\n\r\n", at, len(data))
	_, err = c.Write(data[:1<<20])
	must(t, err)
	// The second one makes the first let go, which says so to its own caller.
	time.Sleep(50 * time.Millisecond)
	kept := w.offset(at)
	w.patch(at, kept, data[kept:]).want(204)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, " 400 ") {
		t.Errorf("the first one heard %q, %v", line, err)
	}
	w.wantFile("file", data)
}

func TestUploadsThatStandStillForADayAreSweptAwayAndTheVolumeIsLeftAloneThen(t *testing.T) {
	w := newWorld(t)
	marks := func() (n int) {
		must(t, w.store.View(func(tx *store.Tx) error {
			n = 0
			for _, err := range uploading.All(tx) {
				if err != nil {
					return err
				}
				n++
			}
			return nil
		}))
		return n
	}
	at := w.begin("file", 10, false)
	w.patch(at, 0, []byte("12345")).want(204)
	if marks() != 1 {
		t.Fatal("the volume is not marked")
	}
	w.stop()
	w.start()
	must(t, w.files.Sweep(t.Context(), time.Now().Add(files.UploadAge/2)))
	if w.offset(at) != 5 || marks() != 1 {
		t.Fatal("it was swept away too early")
	}
	must(t, w.files.Sweep(t.Context(), time.Now().Add(files.UploadAge+time.Minute)))
	w.do("HEAD", at, nil).want(404)
	if _, err := os.Lstat(w.path(".ecolink-uploads")); err == nil || marks() != 0 {
		t.Errorf("left: %v, %d marks", err, marks())
	}
	w.begin("file", 10, false)
	w.volumes.mu.Lock()
	w.volumes.gone = true // the drive is deleted
	w.volumes.mu.Unlock()
	must(t, w.files.Sweep(t.Context(), time.Now()))
	if marks() != 0 {
		t.Error("a volume that is gone is still looked for")
	}
}

func TestEndsOfUploadsAreForgottenInTime(t *testing.T) {
	f, now := newFinished(), time.Now()
	for n := range maxFinished + 10 {
		f.put(fmt.Sprint(n), files.Upload{}, now)
	}
	if _, ok := f.get("9", now); ok || len(f.known) != maxFinished || len(f.order) != maxFinished {
		t.Errorf("%d are known", len(f.known))
	}
	if _, ok := f.get("11", now); !ok {
		t.Error("a recent one is not")
	}
	if _, ok := f.get("11", now.Add(keepFinished+time.Second)); ok || len(f.known) != 0 {
		t.Errorf("%d are known", len(f.known))
	}
}

// A drive that is being deleted waits for no upload, however slow.
func TestTransfersEndWhenTheirVolumeMayNotBeUsedAnyMore(t *testing.T) {
	w := newWorld(t)
	w.files.recheck = 20 * time.Millisecond
	at := w.begin("file", 1<<20, false)
	c, err := net.Dial("tcp", w.http.Listener.Addr().String())
	must(t, err)
	defer c.Close()
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: %d\r\n\r\n", at, 1<<20)
	_, err = c.Write(make([]byte, 1000))
	must(t, err)
	must(t, os.WriteFile(w.path("large"), nil, 0o644))
	must(t, os.Truncate(w.path("large"), 64<<20))
	resp, err := http.Get(w.http.URL + content + "large") // and does not read it
	must(t, err)
	defer resp.Body.Close()
	time.Sleep(100 * time.Millisecond)
	w.volumes.mu.Lock()
	if w.volumes.open < 2 {
		t.Errorf("%d transfers run", w.volumes.open)
	}
	w.volumes.gone = true
	w.volumes.mu.Unlock()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, " 404 ") {
		t.Errorf("the upload heard %q, %v", line, err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("half a download looks like a whole one")
	}
}

func TestUploadsWaitForNoOtherVolumesSweep(t *testing.T) {
	w := newWorld(t)
	must(t, w.files.mark(t.Context(), account, 5))
	swept := make(chan error, 1)
	go func() {
		swept <- w.files.unmark(t.Context(), 5, func() (bool, error) {
			return true, errors.Join(w.files.mark(t.Context(), account, 5), w.files.mark(t.Context(), account, 6))
		})
	}()
	select {
	case err := <-swept:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("an upload waits for the end of a sweep")
	}
	for _, id := range []scheduler.DriveID{5, 6} {
		must(t, w.store.View(func(tx *store.Tx) error {
			if _, ok, err := uploading.Get(tx, id); err != nil || !ok {
				t.Errorf("the mark of an upload that began meanwhile is lost: volume %d, %v", id, err)
			}
			return nil
		}))
	}
}
