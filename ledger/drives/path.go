package drives

import (
	"path"
	"strings"
)

// private are the paths of a container that EcoLink and the runtime fill. Nothing
// is mounted on them, in them, or so that it covers them.
var private = []string{"/proc", "/sys", "/dev", "/run/ecolink", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname"}

// CheckMountPath refuses where in a container nothing can be mounted. The field of
// its error is "path".
func CheckMountPath(p string) error {
	switch {
	case len(p) > maxPathBytes:
		return invalid("path", "a mount path has at most %d bytes, and this one %d: name a shorter one, such as /workspace", maxPathBytes, len(p))
	case strings.ContainsRune(p, 0):
		return invalid("path", "a mount path can't contain a NUL character")
	case !strings.HasPrefix(p, "/"):
		return invalid("path", "%s is no absolute path: begin it with /, such as /workspace", shown(p))
	case p == "/":
		return invalid("path", "a container's root can't be replaced: name a folder in it, such as /workspace")
	case path.Clean(p) != p:
		return invalid("path", "%s is not the plain form of a path: write it as %s", shown(p), shown(path.Clean(p)))
	}
	for part := range strings.SplitSeq(p[1:], "/") {
		if len(part) > maxComponentBytes {
			return invalid("path", "a part of a path has at most %d bytes, and one of these has %d: name a shorter one", maxComponentBytes, len(part))
		}
	}
	for _, q := range private {
		if Overlap(p, q) {
			return invalid("path", "%s is, has or lies in %s, which belongs to the container itself: name another folder, such as /workspace", shown(p), q)
		}
	}
	return nil
}

// Overlap tells whether two clean paths are the same, or one lies inside the other.
// What is mounted inside something else that is mounted would hide what is there,
// and leave an empty folder of its name in it for ever: two mounts are side by side.
func Overlap(p, q string) bool {
	return p == q || strings.HasPrefix(p, q+"/") || strings.HasPrefix(q, p+"/")
}

// shown is what somebody wrote, however long.
func shown(s string) string {
	const enough = 80
	if len(s) > enough {
		s = strings.ToValidUTF8(s[:enough], "") + "…"
	}
	return s
}
