package runtime

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func saved(t *testing.T, images map[string]v1.Image) []byte {
	t.Helper()
	tags := map[name.Tag]v1.Image{}
	for n, image := range images {
		tag, err := name.NewTag(n)
		if err != nil {
			t.Fatal(err)
		}
		tags[tag] = image
	}
	var out bytes.Buffer
	if err := tarball.MultiWrite(tags, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// laidOut is an image as an OCI layout in a tar file.
func laidOut(t *testing.T, image v1.Image, annotations map[string]string) []byte {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(image, layout.WithAnnotations(annotations)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "-C", dir, "-c", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestImageFromAFileIsForEverybodyAndItsRegistryIsNotAsked(t *testing.T) {
	r := newRuntime(t)
	two := map[string]v1.Image{"registry.invalid/team/one:1": noisy(t), "two:2": noisy(t)}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(saved(t, two))
	z.Close()
	found, err := r.Import(background, &packed, "")
	if err != nil || len(found) != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	more, err := r.Import(background, bytes.NewReader(laidOut(t, noisy(t), nil)), "registry.invalid/laid/out:1")
	if err != nil || len(more) != 1 {
		t.Fatalf("%+v, %v", more, err)
	}
	for _, n := range []string{"registry.invalid/team/one:1", "two:2", "docker.io/library/two:2", "registry.invalid/laid/out:1"} {
		digest, err := r.Resolve(background, Image{Name: n})
		if err != nil {
			t.Fatalf("%s: %v", n, err)
		}
		if err := r.Pull(background, Image{Name: n, Digest: digest}, nothing); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	r.wantNoneHalf(t)
	if gone, err := r.Prune(background, nil, true); err != nil || len(gone) > 0 {
		t.Errorf("removed unasked: %+v, %v", gone, err)
	}
	r.mu.Lock()
	clear(r.touched)
	r.mu.Unlock()
	if _, err := r.RemoveImage(background, "two:2", nil); err != nil {
		t.Error(err)
	}
	if _, err := r.RemoveImage(background, "two:2", nil); err == nil {
		t.Error("it was there twice")
	}
}

func TestFilesThatComeAtOnceAreAllImported(t *testing.T) {
	r := newRuntime(t)
	shared := noisy(t) // the same layers under many names
	var all sync.WaitGroup
	for n := range 4 {
		file := saved(t, map[string]v1.Image{fmt.Sprintf("demo/box:%d", n): shared, fmt.Sprintf("demo/other:%d", n): noisy(t)})
		all.Go(func() {
			if found, err := r.Import(background, bytes.NewReader(file), ""); err != nil || len(found) != 2 {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
	all.Wait()
	stored, err := r.Images(background, nil)
	if err != nil || len(stored) != 5 {
		t.Errorf("%+v, %v", stored, err)
	}
	r.wantNoneHalf(t)
}

func TestNamesByWhichOthersPulledAnImportedImageAreNotAmongTheImportedOnes(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := noisy(t)
	private := f.pushed("secret/project:7", image)
	f.spoil(guarded)
	if _, err := r.Import(background, bytes.NewReader(saved(t, map[string]v1.Image{"demo/box:1": image})), ""); err != nil {
		t.Fatal(err)
	}
	if err := r.Pull(background, Image{Name: private, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
	stored, err := r.Images(background, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range stored {
		names = append(names, s.ImportedNames...)
	}
	if len(names) != 1 || names[0] != "docker.io/demo/box:1" {
		t.Errorf("%q are said to be imported, of %+v", names, stored)
	}
	apart := f.pushed("secret/apart:1", noisy(t))
	if err := r.Pull(background, Image{Name: apart, Login: ana}, nothing); err != nil {
		t.Fatal(err)
	}
	imported, err := r.ImportedImages(background)
	if err != nil || len(imported) != 1 || !slices.Equal(imported[0].Names, names) || !slices.Equal(imported[0].ImportedNames, names) || imported[0].Bytes == 0 {
		t.Errorf("the imported ones are %+v, %v, of %+v", imported, err, stored)
	}
}

func TestImportThatEcoLinkDidNotLiveToEndLeavesNothingForTheNext(t *testing.T) {
	r := newRuntime(t)
	file := saved(t, map[string]v1.Image{"demo/box:1": noisy(t)})
	in, out := io.Pipe()
	given, giveUp := context.WithCancel(background)
	ended := make(chan struct{})
	first, err := Connect(background, r.cfg, quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		first.Import(given, in, "")
	}()
	if _, err := out.Write(file[:len(file)/2]); err != nil {
		t.Fatal(err)
	}
	first.client.Close() // it is killed
	giveUp()
	out.Close()
	<-ended
	first.stop()
	second, err := Connect(background, r.cfg, quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	second.wantNothingKept(t)
	// As long, with the same names in it, and yet another.
	if _, err := second.Import(background, bytes.NewReader(saved(t, map[string]v1.Image{"demo/box:1": noisy(t)})), ""); err != nil {
		t.Error(err)
	}
}

// wantNoneHalf looks for what only a pull or import that has not ended leaves.
func (r *Runtime) wantNoneHalf(t *testing.T) {
	t.Helper()
	for _, left := range r.leftovers(t) {
		if strings.HasPrefix(left, "lease") || strings.HasPrefix(left, "ingest") || strings.Contains(left, "extract") {
			t.Error("left:", left)
		}
	}
}

func TestFileThatIsNoArchiveOfImagesIsRefusedWithItsReasonAndNothingIsKept(t *testing.T) {
	r := newRuntime(t)
	good := saved(t, map[string]v1.Image{"demo/box:1": noisy(t)})
	for what, one := range map[string]struct {
		file []byte
		name string
		want string
	}{
		"nothing":                   {nil, "", "no file that"},
		"text":                      {[]byte(strings.Repeat("hello ", 1000)), "", "no file that"},
		"half of it":                {good[:len(good)/2], "", "no file that"},
		"a file without images":     {tarOf(t, "readme", "hello"), "", "no file that"},
		"for another machine":       {saved(t, map[string]v1.Image{"demo/s390:1": foreign(t, noisy(t), "s390x")}), "", "linux/s390x"},
		"without a name":            {laidOut(t, noisy(t), nil), "", "--name"},
		"two, and one name":         {saved(t, map[string]v1.Image{"a:1": noisy(t), "b:1": noisy(t)}), "c:1", "a name is for one"},
		"one good and one for s390": {saved(t, map[string]v1.Image{"a:1": noisy(t), "b:1": foreign(t, noisy(t), "s390x")}), "", "linux/s390x"},
		"a name that is none":       {good, "UPPER/Case!", "write it like"},
		"a changed layer":           {changedIn(good), "", "can't be unpacked"},
	} {
		_, err := r.Import(background, bytes.NewReader(one.file), one.name)
		if err == nil || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: got %v, want something with %q", what, err, one.want)
		}
		r.wantNothingKept(t)
		if stored, err := r.Images(background, nil); err != nil || len(stored) > 0 {
			t.Fatalf("%s: %+v, %v", what, stored, err)
		}
	}
}

// changedIn flips a bit in the middle, which is in the layer's noise.
func changedIn(file []byte) []byte {
	out := bytes.Clone(file)
	out[len(out)/2] ^= 1
	return out
}

func tarOf(t *testing.T, path, text string) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "-C", dir, "-c", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
