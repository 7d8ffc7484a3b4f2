package userland

import (
	"context"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// Variant is one of the images.
type Variant string

// The variants.
const (
	Shell   Variant = "shell"   // bash, vim, htop, tmux, curl
	Jupyter Variant = "jupyter" // Python and Jupyter Notebook, which it starts
)

// packages are what a variant has beyond the least that apt works in.
func (v Variant) packages() []string {
	if v == Jupyter {
		return []string{"ca-certificates", "curl", "jupyter-notebook", "procps", "python3-ipykernel"}
	}
	return []string{"ca-certificates", "curl", "htop", "ncurses-term", "procps", "tmux", "vim"}
}

func (v Variant) command() []string {
	if v == Jupyter {
		return []string{"jupyter", "notebook"}
	}
	return []string{"sleep", "infinity"}
}

// Image gives a variant, from the cache once it has been made here.
func Image(ctx context.Context, v Variant) (v1.Image, error) {
	l, err := cached(ctx, v)
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{
		Cmd: v.command(), WorkingDir: "/root",
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	return mutate.ConfigFile(image, file)
}
