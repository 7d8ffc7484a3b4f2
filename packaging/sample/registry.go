package sample

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Registry is a registry on loopback that keeps images in memory.
type Registry struct {
	listener net.Listener
	server   *http.Server
}

// Serve starts a registry on a free port. The caller must Close it. wrap, when
// not nil, comes in front of it: a test's way to slow or break it.
func Serve(wrap func(http.Handler) http.Handler) (*Registry, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		handler = wrap(handler)
	}
	r := &Registry{listener: l, server: &http.Server{Handler: handler}}
	go r.server.Serve(l) // ends with Close
	return r, nil
}

// Close ends the registry.
func (r *Registry) Close() error { return r.server.Close() }

// Name is what an image is called that was pushed under a short name and tag.
func (r *Registry) Name(short string) string {
	return fmt.Sprintf("%s/%s", r.listener.Addr(), short)
}

// Push puts an image into the registry and gives its full name.
func (r *Registry) Push(short string, image v1.Image) (string, error) {
	full := r.Name(short)
	ref, err := name.ParseReference(full)
	if err != nil {
		return "", err
	}
	if err := remote.Write(ref, image); err != nil {
		return "", fmt.Errorf("push %s: %w", full, err)
	}
	return full, nil
}
