package api

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	volumefiles "ecolink/agent/volume/files"
	"ecolink/ledger/drives"
	"ecolink/scheduler"
	"ecolink/web"
)

// fileEntry is something in a folder of a volume.
type fileEntry struct {
	Name        string           `json:"name" example:"model.safetensors" doc:"Bytes that are not UTF-8 are replaced; see addressable."`
	Type        volumefiles.Type `json:"type" enum:"file,folder,link,other" doc:"A link is a symbolic one; other is a FIFO, a socket or a device, which can't be read."`
	Size        int64            `json:"size" doc:"In bytes; 0 for a folder."`
	Mode        string           `json:"mode" example:"0644" doc:"Permissions, octal."`
	ModifiedAt  time.Time        `json:"modified_at"`
	Target      string           `json:"target" doc:"What a link says; empty for all else."`
	LeadsTo     string           `json:"leads_to" enum:",file,folder" doc:"What a link leads to inside the volume; empty when it leads out or nowhere. Only such links are followed."`
	Addressable bool             `json:"addressable" doc:"Whether a path can name it: false when its name is not UTF-8. Rename it from inside an instance."`
}

func fileEntryOf(e volumefiles.Entry) fileEntry {
	return fileEntry{
		Name: e.Name, Type: e.Type, Size: e.Size, Mode: modeText(e.Mode), ModifiedAt: e.ModTime,
		Target: e.Target, LeadsTo: string(e.Leads), Addressable: e.Named,
	}
}

func modeText(m fs.FileMode) string {
	bits := uint32(m.Perm())
	for n, special := range []fs.FileMode{fs.ModeSticky, fs.ModeSetgid, fs.ModeSetuid} {
		if m&special != 0 {
			bits |= 0o1000 << n
		}
	}
	return fmt.Sprintf("%04o", bits)
}

// fileList is a part of a folder's entries.
type fileList struct {
	Data       []fileEntry `json:"data" nullable:"false"`
	NextCursor *string     `json:"next_cursor" doc:"Pass it as cursor for what follows; null at the end."`
	Total      int         `json:"total" doc:"How many entries the whole folder has."`
}

type fileListOutput struct{ Body fileList }

type fileOutput struct{ Body fileEntry }

// ByVolume is the input of operations on the files of a volume.
type ByVolume struct {
	ID scheduler.DriveID `path:"id" minimum:"1" doc:"The number of the drive or filesystem." example:"12"`
}

// FilePath names a file or a folder.
type FilePath struct {
	Path string `query:"path" doc:"Relative to the volume, in UTF-8. \"..\" is refused; links are followed inside the volume and never out of it." example:"checkpoints/step-100"`
}

type listFilesInput struct {
	ByVolume
	FilePath
	Limit  int    `query:"limit" default:"200" minimum:"1" maximum:"1000" doc:"How many to return at most."`
	Cursor string `query:"cursor" doc:"next_cursor of the page before; the first page without it."`
}

type fileInput struct {
	ByVolume
	FilePath
}

type removeFileInput struct {
	ByVolume
	FilePath
	Recursive bool `query:"recursive" doc:"Remove a folder with all that is in it."`
}

type makeFolderInput struct {
	ByVolume
	Body struct {
		Path string `json:"path" doc:"The new folder. Those above it are made, too." example:"data/raw"`
	} `nameHint:"FolderRequest"`
}

type moveFileInput struct {
	ByVolume
	Body struct {
		From      string `json:"from" example:"data/raw.csv"`
		To        string `json:"to" doc:"The new path: a name and not only a folder." example:"old/raw.csv"`
		Overwrite bool   `json:"overwrite,omitempty" doc:"Replace what is there: a file, a link, or an empty folder by a folder."`
	} `nameHint:"MoveRequest"`
}

// fileRoutes are the two kinds of volumes that have files.
var fileRoutes = []struct {
	kind       drives.Kind
	path, name string
}{
	{drives.CloudDrive, "/v1/drives/{id}", "drive"},
	{drives.SharedFilesystem, "/v1/shared-filesystems/{id}", "shared-filesystem"},
}

func (a *api) addFiles() {
	for _, at := range fileRoutes {
		v := volumeFiles{a, at.kind}
		words := strings.ReplaceAll(at.name, "-", " ")
		op := func(id, method, p, summary, description string, errors ...int) huma.Operation {
			return huma.Operation{
				OperationID: fmt.Sprintf(id, at.name), Method: method, Path: at.path + p, Tags: []string{tagFiles},
				Summary: summary + " of a " + words, Description: description, Errors: append([]int{404, 409}, errors...),
			}
		}
		register(a, op("list-%s-files", http.MethodGet, "/files", "List a folder",
			"Folders first, then by name, bytewise. The folder may be attached to an instance, or not."), v.list)
		register(a, op("get-%s-file", http.MethodGet, "/files/entry", "Show a file or folder",
			"One entry, as its folder lists it: a link itself and not what it leads to."), v.show)
		register(a, op("remove-%s-file", http.MethodDelete, "/files", "Remove a file or folder",
			"A link is removed itself. A folder that is not empty is refused unless recursive is set; when that breaks off, call it again."), v.remove)
		folder := op("make-%s-folder", http.MethodPost, "/files/folders", "Make a folder",
			"A folder that is there already is a conflict.", 400, 413, 415, 507)
		folder.DefaultStatus = http.StatusCreated
		register(a, folder, v.makeFolder)
		register(a, op("move-%s-file", http.MethodPost, "/files/move", "Rename or move a file or folder",
			"In one step, within the volume.", 400, 413, 415, 507), v.move)
		content := op("download-%s-file", http.MethodGet, "/files/content", "Download a file",
			"Ranges and conditions work (Range, If-Range, If-None-Match): a download that broke off can go on. The ETag is another one after any write.", 416)
		content.Responses = map[string]*huma.Response{"200": binary("application/octet-stream", "The file."), "206": binary("application/octet-stream", "The range that was asked for."), "304": {Description: "It is still what the ETag says."}}
		register(a, content, v.content)
		archive := op("download-%s-folder", http.MethodGet, "/files/archive", "Download a folder as a zip",
			"A stream, made while it is sent. Links are stored as links; FIFOs, sockets and devices are left out, and the archive's comment says how many.", 503)
		archive.Responses = map[string]*huma.Response{"200": binary("application/zip", "The archive.")}
		register(a, archive, v.archive)
		v.addUploads(at.path, at.name, words)
	}
}

func binary(media, description string) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{media: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}
}

// volumeFiles are the operations for one kind of volume.
type volumeFiles struct {
	*api
	kind drives.Kind
}

// with opens a volume of this kind.
func (v volumeFiles) with(ctx context.Context, id scheduler.DriveID, do func(volumefiles.Volume) error) error {
	account := web.CallerOf(ctx).Account
	if _, err := v.Scheduler.Drive(account, v.kind, id); err != nil {
		return err
	}
	return v.Files.With(ctx, account, id, do)
}

func (v volumeFiles) list(ctx context.Context, in *listFilesInput) (*fileListOutput, error) {
	var out fileListOutput
	err := v.with(ctx, in.ID, func(volume volumefiles.Volume) error {
		found, err := volume.List(ctx, in.Path, in.Cursor, in.Limit)
		if err != nil {
			return err
		}
		out.Body = fileList{Data: []fileEntry{}, Total: found.Total}
		for _, e := range found.Entries {
			out.Body.Data = append(out.Body.Data, fileEntryOf(e))
		}
		if found.Next != "" {
			out.Body.NextCursor = &found.Next
		}
		return nil
	})
	return &out, err
}

func (v volumeFiles) show(ctx context.Context, in *fileInput) (*fileOutput, error) {
	var out fileOutput
	err := v.with(ctx, in.ID, func(volume volumefiles.Volume) (err error) {
		out.Body, err = entryAt(volume, in.Path)
		return err
	})
	return &out, err
}

func (v volumeFiles) remove(ctx context.Context, in *removeFileInput) (*struct{}, error) {
	return nil, v.with(ctx, in.ID, func(volume volumefiles.Volume) error { return volume.Remove(ctx, in.Path, in.Recursive) })
}

func (v volumeFiles) makeFolder(ctx context.Context, in *makeFolderInput) (*fileOutput, error) {
	var out fileOutput
	err := v.with(ctx, in.ID, func(volume volumefiles.Volume) error {
		err := volume.Mkdir(in.Body.Path)
		if err == nil {
			out.Body, err = entryAt(volume, in.Body.Path)
		}
		return err
	})
	return &out, err
}

func (v volumeFiles) move(ctx context.Context, in *moveFileInput) (*fileOutput, error) {
	var out fileOutput
	err := v.with(ctx, in.ID, func(volume volumefiles.Volume) error {
		err := volume.Move(in.Body.From, in.Body.To, in.Body.Overwrite)
		if err == nil {
			out.Body, err = entryAt(volume, in.Body.To)
		}
		return err
	})
	return &out, err
}

func entryAt(volume volumefiles.Volume, p string) (fileEntry, error) {
	e, err := volume.Stat(p)
	return fileEntryOf(e), err
}

func (v volumeFiles) content(ctx context.Context, in *fileInput) (*stream, error) {
	account := web.CallerOf(ctx).Account
	if _, err := v.Scheduler.Drive(account, v.kind, in.ID); err != nil {
		return nil, err
	}
	d, err := v.Files.Content(ctx, account, in.ID, in.Path)
	if err != nil {
		return nil, err
	}
	return &stream{func(hc huma.Context) { r, w := humago.Unwrap(hc); d.Serve(w, r) }}, nil
}

func (v volumeFiles) archive(ctx context.Context, in *fileInput) (*stream, error) {
	account := web.CallerOf(ctx).Account
	drive, err := v.Scheduler.Drive(account, v.kind, in.ID)
	if err != nil {
		return nil, err
	}
	d, err := v.Files.Archive(ctx, account, in.ID, in.Path, drive.Name)
	if err != nil {
		return nil, err
	}
	return &stream{func(hc huma.Context) { r, w := humago.Unwrap(hc); d.Serve(w, r) }}, nil
}

const uploadWords = `Uploads follow the tus protocol, version 1.0.0 (tus.io), with creation, creation-with-upload and termination: any tus client works. ` +
	`Upload-Metadata has "path", where the file goes (folders are made), and "overwrite", true or false, and "mtime", the file's time of modification by RFC 3339; each value in base64. ` +
	`The file has its name once all of it is here and on disk. What stands still for 24 hours goes away.`

// addUploads documents the requests of the tus protocol, which tusd answers.
func (v volumeFiles) addUploads(base, name, words string) {
	minimum := 1.0
	id := &huma.Param{Name: "id", In: "path", Required: true, Description: "The number of the " + words + ".", Schema: &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &minimum}}
	upload := &huma.Param{Name: "upload", In: "path", Required: true, Description: "The upload, as Location named it.", Schema: &huma.Schema{Type: huma.TypeString}}
	header := func(name, description string, required bool) *huma.Param {
		return &huma.Param{Name: name, In: "header", Required: required, Description: description, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	version := header("Tus-Resumable", "1.0.0", true)
	bytes := &huma.RequestBody{Content: map[string]*huma.MediaType{"application/offset+octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}
	for _, op := range []huma.Operation{
		{
			OperationID: "create-" + name + "-upload", Method: http.MethodPost, Path: base + "/uploads", Summary: "Begin an upload into a " + words, Description: uploadWords,
			Parameters: []*huma.Param{id, version, header("Upload-Length", "The file's length in bytes. All of it must fit: that much space is taken at once.", true), header("Upload-Metadata", "path, overwrite and mtime.", true)},
			Responses:  map[string]*huma.Response{"201": {Description: "Location has the upload's address."}}, Errors: []int{404, 409, 412, 507},
		},
		{
			OperationID: "get-" + name + "-upload", Method: http.MethodHead, Path: base + "/uploads/{upload}", Summary: "Ask how far an upload is",
			Parameters: []*huma.Param{id, upload}, Responses: map[string]*huma.Response{"200": {Description: "Upload-Offset and Upload-Length."}}, Errors: []int{404},
		},
		{
			OperationID: "continue-" + name + "-upload", Method: http.MethodPatch, Path: base + "/uploads/{upload}", Summary: "Go on with an upload",
			Parameters: []*huma.Param{id, upload, version, header("Upload-Offset", "Where the bytes go: where the upload is.", true)}, RequestBody: bytes,
			Responses: map[string]*huma.Response{"204": {Description: "Upload-Offset says how far it is now."}}, Errors: []int{404, 409, 412, 413, 507},
		},
		{
			OperationID: "cancel-" + name + "-upload", Method: http.MethodDelete, Path: base + "/uploads/{upload}", Summary: "Cancel an upload",
			Parameters: []*huma.Param{id, upload, version}, Responses: map[string]*huma.Response{"204": {Description: "It is gone, and its space is free."}}, Errors: []int{404, 412},
		},
	} {
		op.Tags = []string{tagFiles}
		v.documentErrors(&op)
		v.huma.OpenAPI().AddOperation(&op)
		v.mux.Handle(op.Method+" "+op.Path, v.Keys.Require(http.HandlerFunc(v.upload)))
	}
}

func driveNumber(s string) (scheduler.DriveID, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		return 0, web.Fail(http.StatusNotFound, "not_found", "id", fmt.Sprintf("%q is not the number of a drive or filesystem", s))
	}
	return scheduler.DriveID(n), nil
}

func (v volumeFiles) upload(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	id, err := driveNumber(r.PathValue("id"))
	if err == nil {
		_, err = v.Scheduler.Drive(web.CallerOf(r.Context()).Account, v.kind, id)
	}
	if err != nil {
		web.WriteFailure(w, web.Explain(r.Context(), v.Log, err))
		return
	}
	base := r.URL.Path
	if r.PathValue("upload") != "" {
		base = path.Dir(base)
	}
	v.Files.ServeUploads(w, r, id, r.PathValue("upload"), base)
}
