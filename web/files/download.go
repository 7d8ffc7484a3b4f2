package files

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"

	"ecolink/agent"
	"ecolink/agent/volume/files"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

// Download is a file or an archive that is about to be sent. Serve it, which also
// closes it, or Close it.
type Download struct {
	server  *Server
	account identity.AccountID
	id      scheduler.DriveID
	volume  *agent.OpenVolume
	file    *files.File
	archive *files.Archive
	name    string
}

// Content opens a file to be sent.
func (s *Server) Content(ctx context.Context, account identity.AccountID, id scheduler.DriveID, p string) (*Download, error) {
	return s.open(ctx, account, id, func(v files.Volume, d *Download) (err error) {
		d.name = path.Base(p)
		d.file, err = v.Open(p)
		return err
	})
}

// Archive opens a folder to be sent as a zip. volumeName is what the archive of
// the volume itself is called.
func (s *Server) Archive(ctx context.Context, account identity.AccountID, id scheduler.DriveID, p, volumeName string) (*Download, error) {
	if most := s.archives.take(account); most > 0 {
		return nil, web.Fail(http.StatusServiceUnavailable, "unavailable", "", fmt.Sprintf("%d archives are being made already: try again in a moment", most))
	}
	d, err := s.open(ctx, account, id, func(v files.Volume, d *Download) (err error) {
		if d.archive, err = v.Archive(p); err == nil {
			if d.name = d.archive.Name; d.name == "" {
				d.name = volumeName
			}
			d.name += ".zip"
		}
		return err
	})
	if err != nil {
		s.archives.release(account)
	}
	return d, err
}

// archives counts the zips that are being written. Whoever reads one slowly holds
// its place for as long, so that one account may not take them all.
type archives struct {
	mu  sync.Mutex
	all int
	of  map[identity.AccountID]int
}

// take takes a place, or tells how many are taken, the most there can be.
func (a *archives) take(account identity.AccountID) (most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.of[account] >= maxAccountArchives:
		return maxAccountArchives
	case a.all >= maxArchives:
		return maxArchives
	}
	a.of[account]++
	a.all++
	return 0
}

func (a *archives) release(account identity.AccountID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all--
	if a.of[account]--; a.of[account] == 0 {
		delete(a.of, account)
	}
}

func (s *Server) open(ctx context.Context, account identity.AccountID, id scheduler.DriveID, find func(files.Volume, *Download) error) (*Download, error) {
	volume, err := s.volumes.OpenVolume(ctx, account, id)
	if err != nil {
		return nil, err
	}
	d := &Download{server: s, account: account, id: id, volume: volume}
	if err := find(files.In(volume.Root), d); err != nil {
		s.close(volume, id)
		return nil, err
	}
	return d, nil
}

// Close ends the download.
func (d *Download) Close() {
	if d.file != nil {
		d.file.Close()
	}
	if d.archive != nil {
		d.archive.Close()
		d.server.archives.release(d.account)
	}
	d.server.close(d.volume, d.id)
}

// Serve sends it. What users store is data to us and nothing else: no browser
// shows it, guesses what it is, or runs it.
func (d *Download) Serve(w http.ResponseWriter, r *http.Request) {
	defer d.Close()
	ctx, stop := d.server.guard(r.Context(), d.account, d.id)
	defer stop()
	h := w.Header()
	h.Set("Content-Disposition", attachment(d.name))
	h.Add("Content-Security-Policy", "sandbox; default-src 'none'") // besides what all pages have
	h.Set("X-Content-Type-Options", "nosniff")
	if d.file != nil {
		h.Set("Content-Type", "application/octet-stream")
		h.Set("ETag", d.file.ETag)
		http.ServeContent(w, r, "", d.file.ModTime, cancellable{ctx, d.file})
		return
	}
	h.Set("Content-Type", "application/zip")
	if r.Method == http.MethodHead {
		return
	}
	if err := d.archive.WriteTo(ctx, w); err != nil {
		if ctx.Err() == nil {
			d.server.log.WarnContext(r.Context(), "an archive broke off", "request_id", web.RequestID(r.Context()), "drive", d.id, "err", err)
		}
		panic(http.ErrAbortHandler) // half an archive must not look like a whole one
	}
}

// cancellable reads until ctx ends.
type cancellable struct {
	ctx context.Context
	io.ReadSeeker
}

func (c cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.ReadSeeker.Read(p)
}

// attachment is a Content-Disposition with a name for old browsers and the real
// one for all others (RFC 6266, RFC 8187).
func attachment(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' || r == '%' {
			return '_'
		}
		return r
	}, name)
	return fmt.Sprintf(`attachment; filename="%s"; filename*=UTF-8''%s`, plain, strings.ReplaceAll(url.QueryEscape(name), "+", "%20"))
}
