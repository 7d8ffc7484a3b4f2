package endtoend

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"ecolink/packaging/sample"
)

// imageOf is what the API says of an instance's image.
func (b *box) imageOf(id int64) (digest string) {
	b.t.Helper()
	var out struct {
		ImageDigest string `json:"image_digest"`
	}
	if f := b.api(http.MethodGet, fmt.Sprintf("/v1/gpu-instances/%d", id), nil, &out); f != nil {
		b.t.Fatalf("%+v", f)
	}
	return out.ImageDigest
}

func TestImageFromAFileIsLaunchedWithoutARegistryAndRemovedWhenNothingUsesIt(t *testing.T) {
	b := newBox(t, 1)
	busybox, err := sample.Busybox(sample.File{Path: "etc/origin", Mode: 0o644, Content: []byte("a file\n")})
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("offline.example/team/tool:1")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(b.dir, "tool.tar")
	if err := tarball.WriteToFile(file, tag, busybox); err != nil {
		t.Fatal(err)
	}
	if out := b.cli(append([]string{"image", "import", file}, b.place()...)...); !strings.Contains(out, "imported offline.example/team/tool:1") {
		t.Fatalf("got %s", out)
	}
	r := b.request("tool")
	r["image"] = "offline.example/team/tool:1"
	var i instance
	if f := b.api(http.MethodPost, "/v1/gpu-instances", r, &i); f != nil {
		t.Fatalf("%+v", f)
	}
	b.await(i.ID, "running")
	if got := b.sh("tool", "cat /etc/origin"); got != "a file" {
		t.Errorf("got %q", got)
	}
	if out := b.cli(append([]string{"image", "ls"}, b.place()...)...); !strings.Contains(out, "in use, imported") {
		t.Errorf("got %s", out)
	}
	if out := b.fails(append([]string{"image", "rm", "offline.example/team/tool:1"}, b.place()...)...); !strings.Contains(out, "in use") {
		t.Errorf("got %s", out)
	}
	b.kill()
	b.start()
	b.await(i.ID, "running")
	if out := b.fails(append([]string{"image", "rm", "offline.example/team/tool:1"}, b.place()...)...); !strings.Contains(out, "in use") {
		t.Errorf("got %s", out)
	}
	b.cli("instance", "terminate", "tool")
	b.await(i.ID, "terminated")
	b.cli(append([]string{"image", "rm", "offline.example/team/tool:1"}, b.place()...)...)
	if f := b.api(http.MethodPost, "/v1/gpu-instances?dry_run=true", r, nil); f == nil || f.Status != http.StatusUnprocessableEntity {
		t.Errorf("it could be launched once it was removed: %+v", f)
	}
	notAnImage := filepath.Join(b.dir, "password")
	if out := b.fails(append([]string{"image", "import", notAnImage}, b.place()...)...); !strings.Contains(out, "docker save") {
		t.Errorf("got %s", out)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestPrivateImageRunsWithTheAccountsLogInAndStaysWhatItWas(t *testing.T) {
	b := newBox(t, 1)
	private, err := sample.Serve(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); strings.HasPrefix(r.URL.Path, "/v2/private/") && r.Header.Get("X-Push") == "" && (user != "ana" || password != "correct horse") {
				w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { private.Close() })
	push := func(text string) (digest string) {
		t.Helper()
		image, err := sample.Busybox(sample.File{Path: "etc/version", Mode: 0o644, Content: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := name.ParseReference(private.Name("private/box:1"))
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, image, remote.WithTransport(pushing{})); err != nil {
			t.Fatal(err)
		}
		d, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	first := push("one")
	r := b.request("secret")
	r["image"] = private.Name("private/box:1")
	if f := b.api(http.MethodPost, "/v1/gpu-instances", r, nil); f == nil || f.Status != http.StatusUnprocessableEntity || f.Param != "image" || !strings.Contains(f.Message, "log-in") {
		t.Fatalf("without a log-in: %+v", f)
	}
	host := strings.TrimSuffix(private.Name(""), "/")
	b.input("correct horse\n", "registry", "login", host, "--username", "ana", "--password-stdin")
	var i instance
	if f := b.api(http.MethodPost, "/v1/gpu-instances", r, &i); f != nil {
		t.Fatalf("%+v", f)
	}
	b.await(i.ID, "running")
	push("two")
	b.kill()
	b.start()
	b.await(i.ID, "running")
	if got := b.sh("secret", "cat /etc/version"); got != "one" || b.imageOf(i.ID) != first {
		t.Errorf("it runs %q, %s", got, b.imageOf(i.ID))
	}
	raw, err := os.ReadFile(filepath.Join(b.dir, "data", "ecolink.db"))
	if err != nil || strings.Contains(string(raw), "correct horse\"") || strings.Contains(b.log(), "correct horse") {
		t.Errorf("the password can be read: %v", err)
	}
}

// pushing marks a test's own requests, which need no log-in.
type pushing struct{}

func (pushing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Push", "yes")
	return http.DefaultTransport.RoundTrip(r)
}

// fails runs an ecolink command that must not succeed, and gives what it says.
func (b *box) fails(args ...string) string {
	b.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "ECOLINK_URL="+b.url, "ECOLINK_API_KEY="+b.key)
	out, err := cmd.CombinedOutput()
	if err == nil {
		b.t.Fatalf("ecolink %s succeeded: %s", strings.Join(args, " "), out)
	}
	return string(out)
}

// input runs an ecolink command that reads text from its standard input.
func (b *box) input(text string, args ...string) {
	b.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "ECOLINK_URL="+b.url, "ECOLINK_API_KEY="+b.key)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("ecolink %s: %v: %s", strings.Join(args, " "), err, out)
	}
}
