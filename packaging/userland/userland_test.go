package userland

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func TestImagesHaveTheProgramsThatPeopleRun(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
	for v, want := range map[Variant][]string{
		Shell:   {"usr/bin/bash", "usr/bin/vim.basic", "usr/bin/htop", "usr/bin/tmux"},
		Jupyter: {"usr/bin/python3", "usr/bin/jupyter-notebook"},
	} {
		image, err := Image(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if v == Shell { // the digests that were noted are those of the bytes
			if err := validate.Image(image); err != nil {
				t.Errorf("%s: %v", v, err)
			}
		}
		archive := mutate.Extract(image)
		var names []string
		for r := tar.NewReader(archive); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, filepath.Clean(h.Name))
		}
		archive.Close()
		for _, name := range want {
			if !slices.Contains(names, name) {
				t.Errorf("%s: there is no %s", v, name)
			}
		}
	}
}

func TestOnlySourcesOfTheOwnReleaseAreTaken(t *testing.T) {
	etc := t.TempDir()
	for name, text := range map[string]string{
		"os-release":       "NAME=x\nVERSION_CODENAME=\"noble\"\n",
		"apt/sources.list": "# deb http://a/ noble main\ndeb [arch=amd64 signed-by=/k.gpg] http://b/ubuntu noble main\ndeb http://c/ sarge main\ndeb-src http://b/ubuntu noble main\n",
		"apt/sources.list.d/ubuntu.sources": "Types: deb\nURIs: http://d/\nSuites: noble noble-updates\nComponents: main\n\n" +
			"# third\nTypes: deb\nURIs: http://e/\nSuites: nodistro\n\nEnabled: no\nTypes: deb\nURIs: http://f/\nSuites: noble\n",
		"apt/sources.list.d/off.sources.disabled": "Types: deb\nURIs: http://g/\nSuites: noble\n",
	} {
		path := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := readSources(etc)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"deb [arch=amd64 signed-by=/k.gpg] http://b/ubuntu noble main"}; !slices.Equal(s.lines, want) {
		t.Errorf("lines %q", s.lines)
	}
	if want := []string{"Types: deb\nURIs: http://d/\nSuites: noble noble-updates\nComponents: main"}; !slices.Equal(s.stanzas, want) {
		t.Errorf("stanzas %q", s.stanzas)
	}
}

func TestAnInterruptedBuildIsNoCache(t *testing.T) {
	base := t.TempDir()
	half := filepath.Join(base, "shell-noble-12345678.making")
	if err := os.MkdirAll(filepath.Join(half, "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := openLayer(half); err == nil {
		t.Error("a build that was cut off counts as made")
	}
	if err := tidy(base, Shell); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("it stays: %v", err)
	}
}
