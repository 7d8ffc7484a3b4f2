package runtime

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"ecolink/agent/runtime/registry"
)

var ana = &registry.Login{Username: "ana", Password: "correct horse"}

// guarded has the registry ask for ana's log-in for private/….
func guarded(w http.ResponseWriter, r *http.Request, next http.Handler) {
	user, password, _ := r.BasicAuth()
	if strings.HasPrefix(r.URL.Path, "/v2/private/") && (user != ana.Username || password != ana.Password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	next.ServeHTTP(w, r)
}

func TestPrivateImageThatIsHereIsStillForThoseAloneWhomItsRegistryLetsIn(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := f.push("private/box:1")
	f.spoil(guarded)
	_, err := r.Resolve(background, Image{Name: image})
	wantRefusal(t, err, "needs a log-in")
	digest, err := r.Resolve(background, Image{Name: image, Login: ana})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Pull(background, Image{Name: image, Digest: digest, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
	for what, i := range map[string]Image{
		"by its name":      {Name: image},
		"by its digest":    {Name: strings.TrimSuffix(image, ":1") + "@" + digest},
		"another log-in":   {Name: image, Login: &registry.Login{Username: "bob", Password: "guess"}},
		"a wrong password": {Name: image, Login: &registry.Login{Username: "ana", Password: "guess"}},
	} {
		if _, err := r.Resolve(background, i); err == nil || !isPermanent(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// While the registry is away nobody can tell who may have it.
	f.Close()
	r.checked = map[string]resolved{}
	for _, l := range []*registry.Login{nil, ana} {
		_, err := r.Resolve(background, Image{Name: image, Login: l})
		wantPassing(t, err)
	}
}

// thief serves manifests that claim somebody else's layers, and has none of them.
func thief(t *testing.T, secret v1.Image, layer v1.Layer) *faulty {
	t.Helper()
	f := newFaulty(t)
	claims, err := mutate.Append(secret, mutate.Addendum{Layer: layer})
	if err != nil {
		t.Fatal(err)
	}
	f.pushed("thief/box:1", claims)
	layers, err := secret.Layers()
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	f.spoil(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, stolen.String()) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		next.ServeHTTP(w, r)
	})
	return f
}

func TestManifestThatClaimsLayersOfAPrivateImageGetsNoneOfThem(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	secret := noisy(t)
	image := f.pushed("private/box:1", secret)
	f.spoil(guarded)
	if err := r.Pull(background, Image{Name: image, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
	more, err := noisy(t).Layers()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Pull(background, Image{Name: thief(t, secret, more[0]).Name("thief/box:1")}, nothing); err == nil {
		t.Error("it got the layer by its digest")
	}
	// The configuration claims to unpack to the secret; the layer is something else.
	file, err := secret.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	forged, err := mutate.ConfigFile(odd(t, []byte("anything")), file)
	if err != nil {
		t.Fatal(err)
	}
	other := newFaulty(t)
	wantRefusal(t, r.Pull(background, Image{Name: other.pushed("thief/box:2", forged)}, nothing), "does not fit its layers")
	// Who really has the layer may use it.
	if err := r.Pull(background, Image{Name: other.pushed("public/box:1", secret)}, nothing); err != nil {
		t.Error(err)
	}
}

// dribbles has the registry send layers byte by byte until free is closed; asked is
// closed with the first byte.
func (f *faulty) dribbles() (asked, free chan struct{}) {
	asked, free = make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { close(asked) })
	var blobs atomic.Int32
	f.spoil(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !isLayer(r) || blobs.Add(1) == 1 { // the first is the configuration
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		for body := rec.Body; body.Len() > 0; {
			select {
			case <-free:
				_, _ = body.WriteTo(w)
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
				_, _ = w.Write(body.Next(1))
				_ = http.NewResponseController(w).Flush()
				first()
			}
		}
	})
	return asked, free
}

func TestRegistryThatSendsSlowlyHoldsNobodyElseUp(t *testing.T) {
	r, slow, good := newRuntime(t), newFaulty(t), newFaulty(t)
	image := noisy(t)
	theirs, ours := slow.pushed("demo/box:1", image), good.pushed("demo/box:1", image)
	asked, free := slow.dribbles()
	other := make(chan error, 1)
	go func() { other <- r.Pull(background, Image{Name: theirs}, nothing) }()
	<-asked
	ctx, cancel := context.WithTimeout(background, 20*time.Second)
	defer cancel()
	if err := r.Pull(ctx, Image{Name: ours}, nothing); err != nil {
		t.Errorf("the same image from another registry: %v", err)
	}
	close(free)
	if err := <-other; err != nil {
		t.Error(err)
	}
}

// The thief knows what the secret is built on, begins before the secret is here, and
// comes to its layer when it is.
func TestManifestThatClaimsLayersOfAnImageThatIsStillToComeGetsNoneOfThem(t *testing.T) {
	r, f, other := newRuntime(t), newFaulty(t), newFaulty(t)
	base := noisy(t)
	on := func(top v1.Image) v1.Image {
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
	secret := on(noisy(t))
	image := f.pushed("private/box:1", secret)
	f.spoil(guarded)
	file, err := secret.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	forged, err := mutate.ConfigFile(on(noisy(t)), file)
	if err != nil {
		t.Fatal(err)
	}
	claim := Image{Name: other.pushed("thief/box:1", forged)}
	asked, free := other.dribbles()
	done := make(chan error, 1)
	go func() { done <- r.Pull(background, claim, nothing) }()
	<-asked
	if err := r.Pull(background, Image{Name: image, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
	close(free)
	wantRefusal(t, <-done, "does not fit its layers")
	digest, err := forged.Digest()
	if err != nil {
		t.Fatal(err)
	}
	pin, err := pinnedName(claim.Name, digest.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.keep(r.in(background), pin); err == nil || r.ready(r.in(background), pin) {
		t.Error("it can be run all the same")
	}
}

func mirrorOf(t *testing.T, f *faulty, login *registry.Login) registry.Mirror {
	t.Helper()
	return registry.Mirror{URL: &url.URL{Scheme: "http", Host: strings.TrimSuffix(f.Name(""), "/")}, Login: login}
}

func TestMirrorIsAskedFirstAndTheRegistryItselfWhereTheMirrorFails(t *testing.T) {
	origin, mirror := newFaulty(t), newFaulty(t)
	domain := strings.TrimSuffix(origin.Name(""), "/")
	r := newRuntime(t, func(c *Config) {
		c.Registry.Mirrors = map[string][]registry.Mirror{domain: {mirrorOf(t, mirror, nil)}}
	})
	image := noisy(t)
	mirror.pushed("demo/box:1", image)
	name := origin.pushed("demo/box:1", image)
	origin.spoil(status(500))
	if err := r.Pull(background, Image{Name: name}, nothing); err != nil {
		t.Fatalf("the mirror has it: %v", err)
	}
	if len(mirror.requests()) == 0 {
		t.Error("the mirror was not asked")
	}
	origin.spoil(nil)
	if err := r.Pull(background, Image{Name: origin.push("demo/other:1")}, nothing); err != nil {
		t.Errorf("the mirror does not have it: %v", err)
	}
	mirror.spoil(status(500))
	if err := r.Pull(background, Image{Name: origin.push("demo/third:1")}, nothing); err != nil {
		t.Errorf("the mirror is broken: %v", err)
	}
	mirror.Close()
	if err := r.Pull(background, Image{Name: origin.push("demo/fourth:1")}, nothing); err != nil {
		t.Errorf("the mirror is away: %v", err)
	}
}

func TestLogInGoesToItsRegistryAloneAndAMirrorsToTheMirror(t *testing.T) {
	origin, mirror := newFaulty(t), newFaulty(t)
	operator := &registry.Login{Username: "mirror", Password: "operator's"}
	domain := strings.TrimSuffix(origin.Name(""), "/")
	r := newRuntime(t, func(c *Config) {
		c.Registry.Mirrors = map[string][]registry.Mirror{domain: {mirrorOf(t, mirror, operator)}}
	})
	name := origin.push("private/box:1")
	asking := func(want *registry.Login) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			user, password, ok := req.BasicAuth()
			if ok && (user != want.Username || password != want.Password) {
				t.Errorf("%s got the log-in of %s", want.Username, user)
			}
			if !ok {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, req)
		}
	}
	mirror.spoil(asking(operator))
	origin.spoil(asking(ana))
	if err := r.Pull(background, Image{Name: name, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
}

func TestPortOfThisMachineThatIsNoRegistryTellsNothingOfItself(t *testing.T) {
	r := newRuntime(t)
	words := map[string]string{}
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	words["closed"] = closed.Addr().String()
	closed.Close()
	mute, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	go func() {
		for {
			conn, err := mute.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "220 mail.example ESMTP\r\n")
			conn.Close()
		}
	}()
	words["no HTTP"] = mute.Addr().String()
	for what, code := range map[string]int{"404": 404, "500": 500, "400": 400} {
		pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "secret", code) }))
		defer pages.Close()
		words[what] = strings.TrimPrefix(pages.URL, "http://")
	}
	said := map[string]bool{}
	for what, host := range words {
		_, err := r.Resolve(background, Image{Name: host + "/a/b:1"})
		if err == nil {
			t.Fatalf("%s: no error", what)
		}
		said[strings.ReplaceAll(err.Error(), host, "HOST")] = true
	}
	if len(said) != 1 {
		t.Errorf("they can be told apart: %v", said)
	}
}

func TestRegistriesOnThisMachineCanBeSwitchedOffAndOthersNeverLeadToIt(t *testing.T) {
	f := newFaulty(t)
	image := f.push("demo/box:1")
	r := newRuntime(t, func(c *Config) { c.Registry.NoLoopback = true })
	for _, name := range []string{image, "169.254.169.254/latest/meta:1", "[fe80::1]:5000/x/y:1", "0.0.0.0:5000/x/y:1"} {
		_, err := r.Resolve(background, Image{Name: name})
		if err == nil || !isPermanent(err) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "does not answer as a registry") && !strings.Contains(err.Error(), "write it like") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked := f.requests(); len(asked) > 3+6 { // the push's own
		t.Errorf("it was asked: %v", asked)
	}
}
