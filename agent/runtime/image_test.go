package runtime

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/google/go-containerregistry/pkg/name"

	"ecolink/packaging/sample"
)

// changed has what the registry sends of each layer go through f.
func changed(f func([]byte) []byte) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !isLayer(r) {
			next.ServeHTTP(w, r)
			return
		}
		var whole recorder
		plain := r.Clone(r.Context())
		plain.Header.Del("Range")
		next.ServeHTTP(&whole, plain)
		body := whole.Bytes()
		if len(body) > layerBytes { // and not the configuration
			body = f(body)
		}
		var offset int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &offset); err == nil {
			if offset >= len(body) {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, len(body)-1, len(body)))
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(body[offset:])
	}
}

type recorder struct {
	bytes.Buffer
	header http.Header
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}
func (r *recorder) WriteHeader(int) {}

func TestLayerThatIsNotWhatItsDigestSaysIsRefusedAndNothingIsKept(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := f.push("demo/box:1")
	f.spoil(changed(func(b []byte) []byte {
		out := bytes.Clone(b)
		out[len(out)/2] ^= 1
		return out
	}))
	wantRefusal(t, r.Pull(background, Image{Name: image}, nothing), "something else than the image's digest says")
	r.wantNothingKept(t)
	f.spoil(nil)
	if err := r.Pull(background, Image{Name: image}, nothing); err != nil {
		t.Fatal(err)
	}
}

func TestLayerThatIsCutShortOrGoesOnIsRefused(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := f.push("demo/box:1")
	f.spoil(changed(func(b []byte) []byte { return b[:len(b)/2] }))
	wantRefusal(t, r.Pull(background, Image{Name: image}, nothing), "only a part")
	r.wantNothingKept(t)
	f.spoil(changed(func(b []byte) []byte { return append(bytes.Clone(b), b...) }))
	wantRefusal(t, r.Pull(background, Image{Name: image}, nothing), "something else than")
	r.wantNothingKept(t)
}

func foreign(t *testing.T, image v1.Image, arch string) v1.Image {
	t.Helper()
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Architecture = arch
	out, err := mutate.ConfigFile(image, file)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (f *faulty) pushIndex(short string, images map[string]v1.Image) string {
	f.t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for arch, image := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	full := f.Name(short)
	ref, err := name.ParseReference(full)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		f.t.Fatal(err)
	}
	return full
}

func TestImageForOtherMachinesIsRefusedBeforeItsLayersAndSaysForWhichItIs(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	s390 := foreign(t, noisy(t), "s390x")
	for what, image := range map[string]string{
		"an image": f.pushed("demo/s390:1", s390),
		"a list":   f.pushIndex("demo/list:1", map[string]v1.Image{"s390x": s390}),
	} {
		f.sent.Store(0)
		wantRefusal(t, r.Pull(background, Image{Name: image}, nothing), "linux/s390x", "this machine is linux/"+goruntime.GOARCH)
		if sent := f.sent.Load(); sent > layerBytes {
			t.Errorf("%s: its layer was fetched", what)
		}
	}
	r.wantNothingKept(t)
	both := f.pushIndex("demo/both:1", map[string]v1.Image{"s390x": s390, goruntime.GOARCH: noisy(t)})
	if err := r.Pull(background, Image{Name: both}, nothing); err != nil {
		t.Fatal(err)
	}
}

// odd is an image with a layer of any bytes.
func odd(t *testing.T, layer []byte) v1.Image {
	t.Helper()
	image, err := mutate.Append(empty.Image, mutate.Addendum{Layer: static.NewLayer(layer, types.DockerLayer)})
	if err != nil {
		t.Fatal(err)
	}
	return foreign(t, mutate.MediaType(image, types.DockerManifestSchema2), goruntime.GOARCH)
}

func TestLayerThatIsNoArchiveIsRefusedAndNothingIsKept(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	noise := make([]byte, 64<<10)
	rand.Read(noise)
	for what, layer := range map[string][]byte{"noise": noise, "half a gzip": {0x1f, 0x8b, 8, 0, 0}, "text": []byte(strings.Repeat("no tar ", 1000))} {
		image := odd(t, layer)
		file, _ := image.ConfigFile()
		file = file.DeepCopy()
		file.OS = "linux"
		image, err := mutate.ConfigFile(image, file)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Pull(background, Image{Name: f.pushed("demo/odd:1", image)}, nothing)
		t.Logf("%s: %v", what, err)
		wantRefusal(t, err, "can't be unpacked")
		r.wantNothingKept(t)
	}
}

func TestLayerThatReachesOutOfItselfChangesNothingOnTheHost(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 20)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, h := range []*tar.Header{
		{Name: up + outside, Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
		{Name: outside, Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
		{Name: "door", Typeflag: tar.TypeSymlink, Linkname: filepath.Dir(outside)},
		{Name: "door/outside", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: up + outside},
		{Name: "disk", Typeflag: tar.TypeBlock, Mode: 0o666, Devmajor: 7, Devminor: 0},
		{Name: up + filepath.Dir(outside) + "/.wh.outside", Typeflag: tar.TypeReg},
		{Name: "door/.wh.outside", Typeflag: tar.TypeReg},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write(make([]byte, h.Size))
	}
	w.Close()
	raw := layer.Bytes()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(noisy(t), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the pull: %v", r.Pull(background, Image{Name: f.pushed("demo/evil:1", image)}, nothing))
	if got, err := os.ReadFile(outside); err != nil || string(got) != "precious" {
		t.Errorf("outside is %q, %v", got, err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("outside is %v, %v", info, err)
	}
}

func TestManifestOrConfigurationBeyondAllSenseIsRefused(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	file, err := noisy(t).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Config.Env = []string{"X=" + strings.Repeat("x", maxConfig)}
	large, err := mutate.ConfigFile(noisy(t), file)
	if err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, r.Pull(background, Image{Name: f.pushed("demo/large:1", large)}, nothing), "at most")
	huge, ok := mutate.Annotations(noisy(t), map[string]string{"x": strings.Repeat("x", maxManifest)}).(v1.Image)
	if !ok {
		t.Fatal("no image")
	}
	wantRefusal(t, r.Pull(background, Image{Name: f.pushed("demo/huge:1", huge)}, nothing), "at most")
	// One without a length goes on for ever.
	f.spoil(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if !strings.Contains(req.URL.Path, "/manifests/") {
			next.ServeHTTP(w, req)
			return
		}
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		if req.Method == http.MethodHead {
			return
		}
		for req.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	_, err = r.Resolve(background, Image{Name: f.Name("demo/endless:1")})
	wantRefusal(t, err, "too long")
	r.wantNothingKept(t)
}

func TestTagThatMovesDoesNotChangeWhatWasPinned(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := f.push("demo/box:1")
	first, err := r.Resolve(background, Image{Name: image})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Pull(background, Image{Name: image, Digest: first}, nothing); err != nil {
		t.Fatal(err)
	}
	f.push("demo/box:1")
	r.checked = map[string]resolved{} // its word is believed for a while
	second, err := r.Resolve(background, Image{Name: image})
	if err != nil || second == first {
		t.Fatalf("%s, %v", second, err)
	}
	if err := r.Pull(background, Image{Name: image, Digest: second}, nothing); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, digest := range []string{first, second} {
		if err := r.Pull(background, Image{Name: image, Digest: digest}, nothing); err != nil {
			t.Error(err)
		}
	}
	// While the registry is away, the tag means what it meant last.
	r.checked = map[string]resolved{}
	if now, err := r.Resolve(background, Image{Name: image}); err != nil || now != second {
		t.Errorf("%s, %v", now, err)
	}
}

func TestProgressTellsOfEveryLayer(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := noisy(t)
	for range 2 {
		noise := make([]byte, layerBytes)
		rand.Read(noise)
		other, err := sample.Image(v1.Config{}, sample.File{Path: fmt.Sprintf("n%x", noise[:4]), Mode: 0o644, Content: noise})
		if err != nil {
			t.Fatal(err)
		}
		layers, err := other.Layers()
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, layers...); err != nil {
			t.Fatal(err)
		}
	}
	name := f.pushed("demo/three:1", image)
	f.spoil(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if isLayer(req) {
			w = slowly{w, 20 * time.Millisecond}
		}
		next.ServeHTTP(w, req)
	})
	seen := map[LayerState]bool{}
	var last Progress
	err := r.Pull(background, Image{Name: name}, func(p Progress) {
		if len(p.Each) != p.Layers || p.Layers != 3 || p.Bytes < last.Bytes || p.Bytes > p.TotalBytes {
			t.Errorf("%+v after %+v", p, last)
		}
		var sum int64
		for _, l := range p.Each {
			seen[l.State] = true
			sum += l.Bytes
			if len(l.Digest) != shownDigest || l.Bytes > l.TotalBytes {
				t.Errorf("%+v", l)
			}
		}
		if sum != p.Bytes {
			t.Errorf("the layers have %d bytes, and all together %d", sum, p.Bytes)
		}
		last = p
	})
	if err != nil {
		t.Fatal(err)
	}
	if !seen[LayerDownloading] || last.TotalBytes < 3*layerBytes {
		t.Errorf("seen: %v; %+v", seen, last)
	}
}

type slowly struct {
	http.ResponseWriter
	pause time.Duration
}

func (s slowly) Write(p []byte) (n int, err error) {
	for n < len(p) {
		k, err := s.ResponseWriter.Write(p[n:min(len(p), n+64<<10)])
		if n += k; err != nil {
			return n, err
		}
		time.Sleep(s.pause)
	}
	return n, nil
}

func TestPullThatWouldFillTheDiskIsGivenUp(t *testing.T) {
	r, f := newRuntime(t, func(c *Config) { c.MinFreeBytes = 1 << 60 }), newFaulty(t)
	err := r.Pull(background, Image{Name: f.push("demo/box:1")}, nothing)
	wantPassing(t, err, "disk is nearly full")
	r.wantNothingKept(t)
}

func TestTwoWhoWantTheSameImageFetchItOnceAndOneWhoGivesUpSpoilsNothing(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := f.push("demo/box:1")
	f.spoil(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if isLayer(req) {
			w = slowly{w, 20 * time.Millisecond}
		}
		next.ServeHTTP(w, req)
	})
	impatient, cancel := context.WithTimeout(background, 500*time.Millisecond)
	defer cancel()
	errs := make(chan error, 4)
	go func() { r.Pull(impatient, Image{Name: image}, nothing); errs <- nil }()
	time.Sleep(100 * time.Millisecond)
	for range 3 {
		go func() { errs <- r.Pull(background, Image{Name: image}, nothing) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if sent := f.sent.Load(); sent > layerBytes+layerBytes/2 {
		t.Errorf("%d bytes were sent for %d", sent, layerBytes)
	}
}
