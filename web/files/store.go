package files

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"

	"ecolink/agent/volume/files"
)

// protocolStore is where tusd keeps uploads: in the volume of the request's scope.
// Its errors are noted in the scope; what it gives tusd is only to end the request.
type protocolStore struct{ *Server }

// errNoted stands for an error that the scope has.
var errNoted = handler.NewError("ERR_NOTED", "noted", http.StatusInternalServerError)

// note keeps an error for the answer.
func note(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	scopeOf(ctx).failed = err
	return errNoted
}

// NewUpload implements handler.DataStore.
func (s protocolStore) NewUpload(ctx context.Context, info handler.FileInfo) (handler.Upload, error) {
	sc := scopeOf(ctx)
	overwrite := info.MetaData[metaOverwrite]
	if overwrite != "" && overwrite != "true" && overwrite != "false" {
		return nil, note(ctx, &files.Error{Kind: files.Invalid, Field: "Upload-Metadata", Message: `overwrite is "true" or "false"`})
	}
	if info.MetaData[metaPath] == "" {
		return nil, note(ctx, &files.Error{Kind: files.Invalid, Field: "Upload-Metadata",
			Message: "say where the file goes: Upload-Metadata: path, and then the path in base64"})
	}
	modTime, err := readModTime(info.MetaData[metaModTime])
	if err != nil {
		return nil, note(ctx, err)
	}
	u, err := sc.volume.NewUpload(info.MetaData[metaPath], info.Size, overwrite == "true", modTime, time.Now())
	if err != nil {
		return nil, note(ctx, err)
	}
	if err := s.mark(ctx, sc.account, sc.id); err != nil {
		return nil, note(ctx, errors.Join(err, sc.volume.CancelUpload(u.ID)))
	}
	return &upload{s.Server, u, false}, nil
}

// readModTime reads mtime; the zero time when there is none.
func readModTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, &files.Error{Kind: files.Invalid, Field: "Upload-Metadata",
			Message: "mtime is a time by RFC 3339, such as 2026-11-24T09:30:00.25Z", Err: err}
	}
	return t.UTC(), nil
}

// GetUpload implements handler.DataStore.
func (s protocolStore) GetUpload(ctx context.Context, id string) (handler.Upload, error) {
	sc := scopeOf(ctx)
	_, id, _ = strings.Cut(id, "/") // after the volume's number; see lockName
	if u, ok := s.finished.get(lockName(sc.id, id), time.Now()); ok {
		return &upload{s.Server, u, true}, nil
	}
	u, err := sc.volume.Upload(id)
	if err != nil {
		return nil, note(ctx, err)
	}
	return &upload{s.Server, u, false}, nil
}

// AsTerminatableUpload implements handler.TerminaterDataStore.
func (s protocolStore) AsTerminatableUpload(u handler.Upload) handler.TerminatableUpload {
	return u.(*upload)
}

// upload is one of tusd's, within a request.
type upload struct {
	server *Server
	files.Upload
	finished bool
}

// GetInfo implements handler.Upload. All the bytes of an upload may be here and
// its end have failed, or have been cut off by a crash: it ends now, since tusd
// does not ask for that again.
func (u *upload) GetInfo(ctx context.Context) (handler.FileInfo, error) {
	if u.Offset == u.Size && u.Size > 0 {
		if err := u.FinishUpload(ctx); err != nil {
			return handler.FileInfo{}, err
		}
	}
	return handler.FileInfo{
		ID: lockName(scopeOf(ctx).id, u.ID), Size: u.Size, Offset: u.Offset,
		MetaData: handler.MetaData{metaPath: u.Path},
	}, nil
}

// WriteChunk implements handler.Upload.
func (u *upload) WriteChunk(ctx context.Context, offset int64, src io.Reader) (int64, error) {
	sc := scopeOf(ctx)
	// Another request wants to go on with this upload. tusd ends our reading then,
	// but only if it had already begun.
	defer context.AfterFunc(ctx, func() { _ = sc.client.SetReadDeadline(time.Unix(1, 0)) })()
	u.Offset = offset
	n, err := sc.volume.WriteUpload(ctx, u.Upload, src)
	u.Offset += n
	return n, note(ctx, err)
}

// FinishUpload implements handler.Upload.
func (u *upload) FinishUpload(ctx context.Context) error {
	if u.finished {
		return nil
	}
	sc := scopeOf(ctx)
	if err := sc.volume.FinishUpload(u.Upload); err != nil {
		return note(ctx, err)
	}
	u.finished, u.Offset = true, u.Size
	u.server.finished.put(lockName(sc.id, u.ID), u.Upload, time.Now())
	return nil
}

// Terminate implements handler.TerminatableUpload.
func (u *upload) Terminate(ctx context.Context) error {
	if u.finished {
		return note(ctx, &files.Error{Kind: files.NotFound, Message: "this upload is finished: remove the file instead"})
	}
	return note(ctx, scopeOf(ctx).volume.CancelUpload(u.ID))
}

// GetReader implements handler.Upload; the handler for it is not routed.
func (u *upload) GetReader(context.Context) (io.ReadCloser, error) {
	return nil, handler.ErrNotImplemented
}

// finished remembers uploads for a while after their end. A client whose
// connection broke with the last answer asks how far its upload is, and must hear
// that it is done and not that there is none: it would send all of it again.
type finished struct {
	mu    sync.Mutex
	known map[string]files.Upload
	order []ended // oldest first
}

type ended struct {
	name string
	at   time.Time
}

func newFinished() *finished { return &finished{known: map[string]files.Upload{}} }

func (f *finished) put(name string, u files.Upload, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trim(now, maxFinished-1)
	f.known[name] = u
	f.order = append(f.order, ended{name, now})
}

func (f *finished) get(name string, now time.Time) (files.Upload, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trim(now, maxFinished)
	u, ok := f.known[name]
	return u, ok
}

func (f *finished) trim(now time.Time, most int) {
	n := 0
	for n < len(f.order) && (now.Sub(f.order[n].at) > keepFinished || len(f.order)-n > most) {
		delete(f.known, f.order[n].name)
		n++
	}
	if n > 0 {
		f.order = append(f.order[:0:0], f.order[n:]...)
	}
}
