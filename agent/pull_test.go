package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"ecolink/packaging/sample"
)

// slowly answers as the registry does, with a pause after each piece of a layer.
type slowly struct {
	http.ResponseWriter
	pause time.Duration
}

func (s slowly) Write(p []byte) (n int, err error) {
	for n < len(p) {
		piece := p[n:min(len(p), n+64<<10)]
		k, err := s.ResponseWriter.Write(piece)
		n += k
		if err != nil {
			return n, err
		}
		time.Sleep(s.pause)
	}
	return n, nil
}

// slowRegistry serves an image of some 4 MiB in about a second, or longer.
func slowRegistry(t *testing.T, pause time.Duration) (image string) {
	t.Helper()
	registry, err := sample.Serve(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				w = slowly{w, pause}
			}
			next.ServeHTTP(w, r)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { registry.Close() })
	noise := make([]byte, 3<<20) // does not compress
	rand.Read(noise)
	big, err := sample.Busybox(sample.File{Path: "noise", Mode: 0o644, Content: noise})
	if err != nil {
		t.Fatal(err)
	}
	if image, err = registry.Push("demo/big:1", big); err != nil {
		t.Fatal(err)
	}
	return image
}

// Pull and CheckImage are what most tests need: the image that a name means now.
func (m *machine) Pull(ctx context.Context, image string, progress func(PullProgress)) error {
	return m.PullImage(ctx, Image{Name: image}, progress)
}

func (m *machine) CheckImage(ctx context.Context, image string) error {
	_, err := m.ResolveImage(ctx, Image{Name: image})
	return err
}

func TestPullTellsHowFarItIsAndIsDoneAtOnceTheSecondTime(t *testing.T) {
	m := newMachine(t)
	image := slowRegistry(t, 15*time.Millisecond)
	var seen []PullProgress
	if err := m.Pull(background, image, func(p PullProgress) { seen = append(seen, p) }); err != nil {
		t.Fatal(err)
	}
	between := 0
	for n, p := range seen {
		if p.Layers != 1 || p.Bytes > p.TotalBytes || n > 0 && p.Bytes < seen[n-1].Bytes {
			t.Errorf("%+v", seen)
			break
		}
		if p.Bytes > 0 && p.Bytes < p.TotalBytes {
			between++
		}
	}
	if between < 2 {
		t.Errorf("nothing was told between the beginning and the end: %+v", seen)
	}
	seen = nil
	if err := m.Pull(background, image, func(p PullProgress) { seen = append(seen, p) }); err != nil || len(seen) > 0 {
		t.Errorf("the second pull: %v, %+v", err, seen)
	}
}

func TestPullThatIsGivenUpEndsAtOnceAndCanBeMadeAgain(t *testing.T) {
	m := newMachine(t)
	image := slowRegistry(t, 40*time.Millisecond)
	ctx, cancel := context.WithTimeout(background, 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := m.Pull(ctx, image, func(PullProgress) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to give up", took)
	}
	if err := m.Pull(background, image, func(PullProgress) {}); err != nil {
		t.Fatal(err)
	}
	m.run(Workload{ID: "instance-1", Image: image, Hostname: "box"})
}
