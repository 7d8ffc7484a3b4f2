package files

import (
	"path"
	"strings"
	"unicode/utf8"
)

// uploadFolder is where unfinished uploads are, in the volume's own root. It is
// not shown, and no path leads into it.
const uploadFolder = ".ecolink-uploads"

// Clean checks a path as users write it, and makes it one relative to the
// volume's root, "." for that itself. A "/" before it, behind it and a second one
// within mean nothing. What would have to be resolved, "..", is refused: nobody
// means it, and who reads the path should see where it leads.
func Clean(field, p string) (string, error) {
	switch {
	case len(p) > MaxPathBytes:
		return "", fail(Invalid, field, "a path has at most %d bytes", MaxPathBytes)
	case !utf8.ValidString(p):
		return "", fail(Invalid, field, "a path is UTF-8: what has another name can be renamed from inside an instance")
	case strings.ContainsRune(p, 0):
		return "", fail(Invalid, field, "a path has no NUL bytes")
	}
	var names []string
	for name := range strings.SplitSeq(p, "/") {
		switch {
		case name == "" || name == ".":
			continue
		case name == "..":
			return "", fail(Invalid, field, `a path has no ".." in it: write where it leads`)
		case len(name) > MaxNameBytes:
			return "", fail(Invalid, field, "a name has at most %d bytes", MaxNameBytes)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return ".", nil
	}
	if names[0] == uploadFolder {
		return "", fail(NotFound, field, "%s is EcoLink's own: it has the uploads that are not finished", uploadFolder)
	}
	return strings.Join(names, "/"), nil
}

// entry is Clean for what can't be the root itself.
func entry(field, p string) (string, error) {
	clean, err := Clean(field, p)
	if err == nil && clean == "." {
		err = fail(Invalid, field, "name something in the volume: this is its root")
	}
	return clean, err
}

// split gives the folder of a clean path, and the name in it.
func split(clean string) (dir, name string) { return path.Dir(clean), path.Base(clean) }
