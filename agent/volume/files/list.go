package files

import (
	"context"
	"encoding/base64"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Type is what an entry of a folder is.
type Type string

// The types.
const (
	TypeFile   Type = "file"
	TypeFolder Type = "folder"
	TypeLink   Type = "link"  // symbolic
	TypeOther  Type = "other" // a FIFO, a socket, a device: listed and never opened
)

// Entry is something in a folder.
type Entry struct {
	Name    string // bytes that are not UTF-8 are replaced, see Named
	Type    Type
	Size    int64       // in bytes, of a file; of a link, the length of its target
	Mode    fs.FileMode // permissions, with set-id and sticky bits
	ModTime time.Time
	Target  string // of a link: what it says
	// Leads is what a link leads to inside the volume: a file or a folder; "" when
	// it leads out, or nowhere.
	Leads Type
	// Named tells whether a path can name the entry.
	Named bool
}

// Page is a part of a folder's entries: folders first, then by name, bytewise.
type Page struct {
	Entries []Entry
	Next    string // pass it as after for what follows; "" at the end
	Total   int    // entries of the whole folder, when it was read
}

// List gives at most limit entries of a folder that come after a page's Next. It
// reads the whole folder and keeps no more of it than the page, however large the
// folder is.
func (v Volume) List(ctx context.Context, p, after string, limit int) (Page, error) {
	clean, err := Clean("path", p)
	if err != nil {
		return Page{}, err
	}
	from, err := readCursor(after)
	if err != nil {
		return Page{}, err
	}
	dir, err := v.folder(clean)
	if err != nil {
		return Page{}, explain(err, "path", clean)
	}
	defer dir.Close()
	limit = min(max(limit, 1), MaxPage)
	keys, total, err := dir.smallest(ctx, from, limit+1, clean == ".")
	if err != nil {
		return Page{}, explain(err, "path", clean)
	}
	page := Page{Total: total, Entries: []Entry{}}
	if len(keys) > limit {
		keys = keys[:limit]
		page.Next = base64.RawURLEncoding.EncodeToString([]byte(keys[limit-1]))
	}
	for _, key := range keys {
		// What has gone meanwhile is left out.
		if e, err := v.entry(dir, clean, key[1:]); err == nil {
			page.Entries = append(page.Entries, e)
		}
	}
	return page, nil
}

// Stat tells of one entry, a link itself and not what it leads to.
func (v Volume) Stat(p string) (Entry, error) {
	clean, err := entry("path", p)
	if err != nil {
		return Entry{}, err
	}
	dir, name, err := v.parent(clean)
	if err != nil {
		return Entry{}, explain(err, "path", clean)
	}
	defer dir.Close()
	e, err := v.entry(dir, path.Dir(clean), name)
	return e, explain(err, "path", clean)
}

// A key is "0" and the name of a folder, "1" and that of anything else.
func keyOf(e fs.DirEntry) string {
	if e.IsDir() {
		return "0" + e.Name()
	}
	return "1" + e.Name()
}

func readCursor(after string) (string, error) {
	if after == "" {
		return "", nil
	}
	key, err := base64.RawURLEncoding.DecodeString(after)
	if err != nil || len(key) < 2 || len(key) > 1+MaxNameBytes {
		return "", fail(Invalid, "cursor", "this is not a cursor: pass the next_cursor of the page before, or none for the first page")
	}
	return string(key), nil
}

// smallest gives the first n keys after one, in order, and how many entries there
// are. It keeps twice n of them at most.
func (f folder) smallest(ctx context.Context, after string, n int, atRoot bool) (keys []string, total int, err error) {
	keys = make([]string, 0, 2*n)
	trim := func() {
		slices.Sort(keys)
		keys = keys[:min(len(keys), n)]
	}
	for {
		entries, err := f.batch()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, 0, err
		}
		if len(entries) == 0 {
			trim()
			return keys, total, nil
		}
		for _, e := range entries {
			if atRoot && e.Name() == uploadFolder {
				continue
			}
			total++
			if key := keyOf(e); key > after {
				if len(keys) == cap(keys) {
					trim()
				}
				keys = append(keys, key)
			}
		}
	}
}

func (v Volume) entry(dir folder, dirPath, name string) (Entry, error) {
	st, err := dir.stat(name)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{
		Name: strings.ToValidUTF8(name, "\uFFFD"), Named: utf8.ValidString(name), Type: typeOf(st),
		Size: st.Size, Mode: modeOf(st), ModTime: time.Unix(st.Mtim.Unix()).UTC(),
	}
	if e.Type == TypeFolder {
		e.Size = 0
	}
	if e.Type == TypeLink {
		e.Target = strings.ToValidUTF8(dir.link(name), "\uFFFD")
		e.Leads = v.leads(path.Join(dirPath, name))
	}
	return e, nil
}

// leads tells what a link leads to inside the volume.
func (v Volume) leads(p string) Type {
	at, err := v.root.Stat(p)
	switch {
	case err != nil:
		return ""
	case at.Mode().IsRegular():
		return TypeFile
	case at.IsDir():
		return TypeFolder
	default:
		return ""
	}
}

func typeOf(st unix.Stat_t) Type {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return TypeFile
	case unix.S_IFDIR:
		return TypeFolder
	case unix.S_IFLNK:
		return TypeLink
	default:
		return TypeOther
	}
}

func modeOf(st unix.Stat_t) fs.FileMode {
	mode := fs.FileMode(st.Mode & 0o777)
	for bit, means := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if st.Mode&bit != 0 {
			mode |= means
		}
	}
	return mode
}
