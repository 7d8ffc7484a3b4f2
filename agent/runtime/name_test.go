package runtime

import (
	"strings"
	"testing"
)

func FuzzNames(f *testing.F) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, s := range []string{"ubuntu", "ubuntu:24.04", "ghcr.io/a/b:1", "127.0.0.1:5000/x/y@" + digest, "[::1]:5000/x/y", "UPPER/Case!", "a//b", "a:b:c", "../x", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		full, err := fullName(s)
		if err != nil {
			if !isPermanent(err) {
				t.Fatalf("%q: %v may pass", s, err)
			}
			return
		}
		if again, err := fullName(full); err != nil || again != full {
			t.Fatalf("%q is %q, and that is %q, %v", s, full, again, err)
		}
		pin, err := pinnedName(s, digest)
		if err != nil || !strings.HasSuffix(pin, "@"+digest) {
			t.Fatalf("%q pinned is %q, %v", s, pin, err)
		}
		domain, err := Domain(s)
		if err != nil || !strings.HasPrefix(full, domain+"/") || !strings.HasPrefix(pin, domain+"/") {
			t.Fatalf("%q is of %q, %v", s, domain, err)
		}
	})
}
