package runtime

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// on is an image that begins with the layers of another.
func on(t *testing.T, base, top v1.Image) v1.Image {
	t.Helper()
	layers, err := top.Layers()
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(base, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// lacks has a registry deny that it has some layer of an image.
func (f *faulty) lacks(t *testing.T, image v1.Image, n int) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[n].Digest()
	if err != nil {
		t.Fatal(err)
	}
	f.spoil(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, digest.String()) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// All registries of these tests have the same host and each a port of its own.
func TestLayerOfAPrivateImageIsNotSentAgainToItsOwnRepositoryAtAPort(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	base := noisy(t)
	first, second := f.pushed("private/box:1", base), f.pushed("private/box:2", on(t, base, noisy(t)))
	others := []string{f.pushed("private/other:1", on(t, base, noisy(t))), f.pushed("private/other:2", on(t, base, noisy(t)))}
	f.spoil(guarded)
	if err := r.Pull(background, Image{Name: first, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
	before := f.sent.Load()
	if err := r.Pull(background, Image{Name: second, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
	if sent := f.sent.Load() - before; sent < layerBytes || sent > layerBytes+layerBytes/2 {
		t.Errorf("%d bytes were sent for the one layer that is new, of %d", sent, layerBytes)
	}
	// Another repository sends it once, and then has it as well.
	for n, most := range []int64{2*layerBytes + layerBytes/2, layerBytes + layerBytes/2} {
		before := f.sent.Load()
		if err := r.Pull(background, Image{Name: others[n], Login: ana}, nothing); err != nil {
			t.Fatal(err)
		}
		if sent := f.sent.Load() - before; sent < most-layerBytes/2 || sent > most {
			t.Errorf("%s: %d bytes were sent, at most %d had to be", others[n], sent, most)
		}
	}
}

func TestRegistryAtAnotherPortOfTheSameHostIsAnotherRegistry(t *testing.T) {
	r, f, other := newRuntime(t), newFaulty(t), newFaulty(t)
	secret := noisy(t)
	image := f.pushed("private/box:1", secret)
	f.spoil(guarded)
	if err := r.Pull(background, Image{Name: image, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
	claim := Image{Name: other.pushed("private/box:1", on(t, secret, noisy(t)))} // by the same name
	other.lacks(t, secret, 0)
	if err := r.Pull(background, claim, nothing); err == nil {
		t.Error("a registry that does not have the layer was taken for the one that has")
	}
}

// The registry keeps the pull waiting with one layer while another that it claims
// to have is brought by its owner.
func TestLayerThatComesWhileAManifestThatClaimsItWaitsIsNotGivenToIt(t *testing.T) {
	r, f, other := newRuntime(t), newFaulty(t), newFaulty(t)
	bait, secret := noisy(t), noisy(t)
	mine, image := f.pushed("private/bait:1", bait), f.pushed("private/box:1", secret)
	f.spoil(guarded)
	if err := r.Pull(background, Image{Name: mine, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
	digests := make([]string, 0, 2)
	for _, i := range []v1.Image{secret, bait} {
		layers, err := i.Layers()
		if err != nil {
			t.Fatal(err)
		}
		d, err := layers[0].Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d.String())
	}
	claim := Image{Name: other.pushed("thief/box:1", on(t, secret, bait))}
	asked, free := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { close(asked) })
	other.spoil(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		switch {
		case strings.HasSuffix(req.URL.Path, digests[0]):
			w.WriteHeader(http.StatusNotFound)
			return
		case isLayer(req) && strings.HasSuffix(req.URL.Path, digests[1]):
			first()
			select {
			case <-free:
			case <-req.Context().Done():
			}
		}
		next.ServeHTTP(w, req)
	})
	done := make(chan error, 1)
	go func() { done <- r.Pull(background, claim, nothing) }()
	<-asked
	if err := r.Pull(background, Image{Name: image, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
	close(free)
	if err := <-done; err == nil {
		t.Error("it got the layer by its digest")
	}
}
