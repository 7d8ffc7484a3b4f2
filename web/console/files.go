package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"ecolink/agent/volume/files"
	"ecolink/ledger/drives"
	"ecolink/web"
)

// fileRows is how many entries of a folder a page shows.
const fileRows = 500

// filesView is a folder of a drive or shared filesystem.
type filesView struct {
	frame
	Drive drives.Drive
	Path  string // relative to the volume; "" for its root
	files.Page
	Space  files.Space
	Cursor string // of this page; "" for the first
}

// crumb is a folder above, or the one that is shown.
type crumb struct{ Name, Path string }

// Crumbs are the folders from the volume to the one that is shown.
func (f filesView) Crumbs() []crumb {
	out := []crumb{{f.Drive.Name, ""}}
	at := ""
	for name := range strings.SplitSeq(f.Path, "/") {
		if name != "" {
			at = path.Join(at, name)
			out = append(out, crumb{name, at})
		}
	}
	return out
}

// folderURL is the page of a folder of the volume.
func (f filesView) folderURL(p string) string { return filesURL(f.Drive, "", p) }

// url is the address of something that is done with an entry of this folder.
func (f filesView) url(action string, e files.Entry) string {
	return filesURL(f.Drive, action, path.Join(f.Path, e.Name))
}

// here is the address of something that is done with the folder itself.
func (f filesView) here(action string) string { return filesURL(f.Drive, action, f.Path) }

// NextURL is the page of what follows.
func (f filesView) NextURL() string {
	return filesPath(f.Drive) + "?" + url.Values{"path": {f.Path}, "cursor": {f.Next}}.Encode()
}

func (f filesView) uploadsURL() string { return drivePath(f.Drive) + "/uploads" }

func filesURL(d drives.Drive, action, p string) string {
	at := filesPath(d)
	if action != "" {
		at += "/" + action
	}
	if p == "" {
		return at
	}
	return at + "?" + url.Values{"path": {p}}.Encode()
}

// isFolder tells whether a click on an entry goes into it.
func isFolder(e files.Entry) bool {
	return e.Named && (e.Type == files.TypeFolder || e.Leads == files.TypeFolder)
}

// isFile tells whether an entry can be downloaded by itself.
func isFile(e files.Entry) bool {
	return e.Named && (e.Type == files.TypeFile || e.Leads == files.TypeFile)
}

func entryIcon(e files.Entry) string {
	switch e.Type {
	case files.TypeFolder:
		return "folder"
	case files.TypeLink:
		return "link"
	default:
		return "file"
	}
}

// linkWords says where a link leads, as far as it is followed.
func linkWords(e files.Entry) string {
	if e.Leads == "" {
		return "link to " + e.Target + ", which is not in this volume"
	}
	return "link to " + e.Target
}

func countEntries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func (c *console) files(w http.ResponseWriter, r *http.Request, v *visit) error {
	d, err := c.ownDrive(r, v)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	f := filesView{Drive: d, Cursor: q.Get("cursor")}
	if f.Path, err = cleanFolder(q.Get("path")); err != nil {
		return err
	}
	err = c.Files.With(r.Context(), v.account.ID, d.ID, func(volume files.Volume) (err error) {
		if f.Page, err = volume.List(r.Context(), f.Path, f.Cursor, fileRows); err != nil {
			return err
		}
		if f.Path == "" {
			hideRecovery(r.Context(), volume, &f.Page)
		}
		f.Space, err = volume.Space()
		return err
	})
	if err != nil {
		return err
	}
	f.frame = c.frame(r, v, "Files of "+d.Name)
	if isPart(r) {
		return show(w, r, http.StatusOK, filesBrowser(f))
	}
	return show(w, r, http.StatusOK, filesPage(f))
}

// hideRecovery leaves the filesystem's own folder for what a repair finds out of a
// volume's root, as long as nothing has been found.
func hideRecovery(ctx context.Context, volume files.Volume, root *files.Page) {
	const name = "lost+found"
	inside, err := volume.List(ctx, name, "", 1)
	if err != nil || inside.Total > 0 {
		return // there is none, or something to see in it
	}
	root.Total--
	root.Entries = slices.DeleteFunc(root.Entries, func(e files.Entry) bool { return e.Name == name })
}

// cleanFolder is a folder's path as the page's addresses have it.
func cleanFolder(p string) (string, error) {
	clean, err := files.Clean("path", p)
	if clean == "." {
		clean = ""
	}
	return clean, err
}

func (c *console) fileContent(w http.ResponseWriter, r *http.Request, v *visit) error {
	d, err := c.ownDrive(r, v)
	if err != nil {
		return err
	}
	content, err := c.Files.Content(r.Context(), v.account.ID, d.ID, r.URL.Query().Get("path"))
	if err != nil {
		return err
	}
	content.Serve(w, r)
	return nil
}

func (c *console) fileArchive(w http.ResponseWriter, r *http.Request, v *visit) error {
	d, err := c.ownDrive(r, v)
	if err != nil {
		return err
	}
	archive, err := c.Files.Archive(r.Context(), v.account.ID, d.ID, r.URL.Query().Get("path"), d.Name)
	if err != nil {
		return err
	}
	archive.Serve(w, r)
	return nil
}

// fileDeed is something that is done with a path of a volume, after a question.
type fileDeed struct {
	Title, Verb string
	Danger      bool
	// NameLabel asks for a name; "" asks for none.
	NameLabel string
	do        func(ctx context.Context, volume files.Volume, p, name string) error
	// returns is the folder to show when it is done.
	returns func(p string) string
}

var fileDeeds = map[string]fileDeed{
	"folder": {
		Title: "New folder", Verb: "Make it", NameLabel: "Name",
		do: func(_ context.Context, volume files.Volume, p, name string) error {
			return volume.Mkdir(p + "/" + name)
		},
		returns: func(p string) string { return p },
	},
	"rename": {
		Title: "Rename", Verb: "Rename", NameLabel: "New name, or a path in this volume that begins with /",
		do: func(_ context.Context, volume files.Volume, p, name string) error {
			if !strings.HasPrefix(name, "/") {
				name = path.Dir(p) + "/" + name
			}
			return volume.Move(p, name, false)
		},
		returns: path.Dir,
	},
	"remove": {
		Title: "Delete", Verb: "Delete", Danger: true,
		do: func(ctx context.Context, volume files.Volume, p, _ string) error {
			return volume.Remove(ctx, p, true)
		},
		returns: path.Dir,
	},
}

// fileQuestion asks before something is done with a path.
type fileQuestion struct {
	frame
	Drive    drives.Drive
	Action   string
	Deed     fileDeed
	Path     string
	Name     string // as it is, or as it was typed
	IsFolder bool
	Problem  string
}

// Heading names what it is about.
func (q fileQuestion) Heading() string {
	if q.Action == "folder" {
		return q.Deed.Title
	}
	return q.Deed.Title + " " + path.Base(q.Path) + "?"
}

// BackURL is the folder that one comes from.
func (q fileQuestion) BackURL() string { return filesURL(q.Drive, "", parentOf(q)) }

func parentOf(q fileQuestion) string {
	if p := q.Deed.returns(q.Path); p != "." {
		return p
	}
	return ""
}

func (c *console) askFile(action string) handler {
	return func(w http.ResponseWriter, r *http.Request, v *visit) error {
		q, err := c.fileQuestionOf(r, v, action, r.URL.Query().Get("path"))
		if err != nil {
			return err
		}
		if action != "folder" {
			err := c.Files.With(r.Context(), v.account.ID, q.Drive.ID, func(volume files.Volume) error {
				e, err := volume.Stat(q.Path)
				q.IsFolder = e.Type == files.TypeFolder
				return err
			})
			if err != nil {
				return err
			}
			q.Name = path.Base(q.Path)
		}
		return c.showFileQuestion(w, r, http.StatusOK, q)
	}
}

func (c *console) fileQuestionOf(r *http.Request, v *visit, action, p string) (q fileQuestion, err error) {
	q.Action, q.Deed = action, fileDeeds[action]
	if q.Drive, err = c.ownDrive(r, v); err != nil {
		return q, err
	}
	if q.Path, err = cleanFolder(p); err != nil {
		return q, err
	}
	if q.Path == "" && action != "folder" {
		return q, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "path", "choose a file or a folder in the volume")
	}
	q.frame = c.frame(r, v, q.Deed.Title)
	return q, nil
}

func (c *console) showFileQuestion(w http.ResponseWriter, r *http.Request, status int, q fileQuestion) error {
	if isPart(r) {
		return show(w, r, status, fileQuestionPart(q))
	}
	return show(w, r, status, fileQuestionPage(q))
}

func (c *console) doFile(action string) handler {
	return func(w http.ResponseWriter, r *http.Request, v *visit) error {
		q, err := c.fileQuestionOf(r, v, action, r.PostFormValue("path"))
		if err != nil {
			return err
		}
		if q.Name = r.PostFormValue("name"); q.Name == "" && q.Deed.NameLabel != "" {
			q.Problem = "write a name"
			return c.showFileQuestion(w, r, http.StatusUnprocessableEntity, q)
		}
		err = c.Files.With(r.Context(), v.account.ID, q.Drive.ID, func(volume files.Volume) error {
			return q.Deed.do(r.Context(), volume, q.Path, q.Name)
		})
		if err != nil {
			f := web.Explain(r.Context(), c.Log, err)
			if f.Status >= 500 && f.Status != http.StatusInsufficientStorage {
				return f
			}
			q.Problem = f.Message
			return c.showFileQuestion(w, r, f.Status, q)
		}
		http.Redirect(w, r, q.BackURL(), http.StatusSeeOther)
		return nil
	}
}

// script serves what a page's script changes something with. Its request carries
// the session's CSRF token and the account that the page was made for as headers,
// as a form does in fields.
func (c *console) script(h handler) http.Handler {
	return c.page(func(w http.ResponseWriter, r *http.Request, v *visit) error {
		if err := crossOrigin.Check(r); err != nil {
			return web.Fail(http.StatusForbidden, "forbidden", "Origin", "this was sent by a page of another site: nothing was done")
		}
		if err := v.session.CheckCSRF(r.Header.Get("X-CSRF-Token")); err != nil {
			return err
		}
		if a := r.Header.Get("X-Ecolink-Account"); a != fmt.Sprint(v.account.ID) {
			return web.Fail(http.StatusForbidden, "forbidden", "", "you have switched to another account since this page was opened: switch back, or reload the page")
		}
		return h(w, r, v)
	})
}

// upload serves the tus protocol.
func (c *console) upload(w http.ResponseWriter, r *http.Request, v *visit) error {
	d, err := c.ownDrive(r, v)
	if err != nil {
		return err
	}
	ctx, stop := c.bounded(r.Context(), v)
	defer stop()
	c.Files.ServeUploads(w, r.WithContext(ctx), d.ID, r.PathValue("upload"), drivePath(d)+"/uploads")
	return nil
}
