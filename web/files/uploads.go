package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/tus/tusd/v2/pkg/handler"
	"github.com/tus/tusd/v2/pkg/memorylocker"
	"golang.org/x/exp/slog"

	"ecolink/agent/volume/files"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

// Metadata of an upload, in its header Upload-Metadata.
const (
	metaPath      = "path"      // where it goes, relative to the volume
	metaOverwrite = "overwrite" // "true" replaces a file that is there
	metaModTime   = "mtime"     // the file's time of modification, by RFC 3339
)

// newProtocol makes tusd's handler over our store.
func newProtocol(s *Server) (*handler.UnroutedHandler, error) {
	composer := handler.NewStoreComposer()
	composer.UseCore(protocolStore{s})
	composer.UseTerminater(protocolStore{s})
	composer.UseLocker(memorylocker.New())
	return handler.NewUnroutedHandler(handler.Config{
		StoreComposer: composer, BasePath: "/", DisableDownload: true, DisableConcatenation: true,
		Cors: &handler.CorsConfig{Disable: true}, // no other site has business here
		// What goes wrong is told to the caller; what is ours to mend, by web.Explain.
		Logger:                           slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1})),
		GracefulRequestCompletionTimeout: lastWrites, AcquireLockTimeout: lockPatience, NetworkTimeout: networkPatience,
	})
}

// scope is one request of the protocol: what tusd's handler has no place for.
type scope struct {
	volume  files.Volume
	account identity.AccountID
	id      scheduler.DriveID
	client  *http.ResponseController
	failed  error // what our store said
}

type scopeKey struct{}

func scopeOf(ctx context.Context) *scope { return ctx.Value(scopeKey{}).(*scope) }

// ServeUploads answers a request of the tus protocol: for the uploads of a volume
// when upload is "", else for that one. base is the address of the volume's
// uploads, without a slash at its end. The caller is in the context.
func (s *Server) ServeUploads(w http.ResponseWriter, r *http.Request, id scheduler.DriveID, upload, base string) {
	account := web.CallerOf(r.Context()).Account
	volume, err := s.volumes.OpenVolume(r.Context(), account, id)
	if err != nil {
		web.WriteFailure(w, web.Explain(r.Context(), s.log, err))
		return
	}
	defer s.close(volume, id)
	ctx, stop := s.guard(r.Context(), account, id)
	defer stop()
	out := &translator{ResponseWriter: w, base: base}
	defer out.answer() // also where it has none: nothing is set any more
	r.Body = body{r.Body, out}
	sc := &scope{volume: files.In(volume.Root), account: account, id: id, client: http.NewResponseController(out)}
	r = r.WithContext(context.WithValue(ctx, scopeKey{}, sc))
	// tusd finds an upload, and locks it, by its path. A clone of a volume has
	// uploads of the same names.
	r.URL = &url.URL{Path: "/" + upload}
	if upload != "" {
		r.URL.Path = "/" + lockName(id, upload)
	}
	r.Header.Del("X-HTTP-Method-Override") // what a request may do was judged by its method
	s.tus.Middleware(s.route(upload)).ServeHTTP(out, r)
	if why := context.Cause(ctx); errors.As(why, new(*scheduler.Problem)) {
		sc.failed = why
	}
	out.finish(r, s.log, sc.failed)
}

func lockName(id scheduler.DriveID, upload string) string { return fmt.Sprintf("%d/%s", id, upload) }

func (s *Server) route(upload string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case upload == "" && r.Method == http.MethodPost:
			s.tus.PostFile(w, r)
		case upload != "" && r.Method == http.MethodHead:
			s.tus.HeadFile(w, r)
		case upload != "" && r.Method == http.MethodPatch:
			s.tus.PatchFile(w, r)
		case upload != "" && r.Method == http.MethodDelete:
			s.tus.DelFile(w, r)
		default:
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
}
