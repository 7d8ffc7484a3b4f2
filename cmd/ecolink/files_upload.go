package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	volumefiles "ecolink/agent/volume/files"
)

// uploader uploads by the tus protocol.
type uploader struct {
	*client
	memory    *uploadMemory
	overwrite bool
	meter     *meter
	tally     *tally
}

// file uploads one file, unless it is on the drive: there is what has its name
// there, nil for nothing. Who put it there may have been an earlier try.
func (u uploader) file(ctx context.Context, local string, to place, there *fileEntry) error {
	f, err := os.Open(local)
	if err != nil {
		return cannotRead(local, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", local)
	}
	s := source{f, st.Size(), modTimeOf(st)}
	key := u.key(to, s)
	switch {
	case there == nil:
	case there.Type == "folder":
		return &takenError{to, "is a folder: choose another name, or remove it first"}
	case s.isAt(there):
		u.memory.forget(key)
		u.tally.kept++
		return nil
	case !u.overwrite:
		return &takenError{to, "is there already and differs in size or time: -f replaces it"}
	}
	err = u.persist(ctx, to, func(out *outage) error { return u.attempt(ctx, s, to, key, out) })
	if isTaken(err) {
		// By this very file, perhaps: the answer to its last byte was lost.
		if now, asked := u.entry(ctx, to); asked == nil && s.isAt(now) {
			err = nil
		}
	}
	if err == nil {
		u.memory.forget(key)
		u.meter.say("%s -> %s, %s", local, to, byteSize(s.size))
	}
	return err
}

// source is a file to be uploaded, as it was when that began.
type source struct {
	*os.File
	size    int64
	modTime time.Time
}

// key names an upload: a file that was changed meanwhile is another one.
func (u uploader) key(to place, s source) string {
	return fmt.Sprintf("%s %s %s %d %d %t", u.base, to.at("/uploads"), to.path, s.size, s.modTime.UnixNano(), u.overwrite)
}

// modTimeOf is a file's time of modification, or the nearest that a drive can keep.
func modTimeOf(st os.FileInfo) time.Time {
	t := st.ModTime().UTC()
	if kept := min(max(t.Unix(), volumefiles.MinModTime), volumefiles.MaxModTime); kept != t.Unix() {
		return time.Unix(kept, 0).UTC()
	}
	return t
}

// isAt tells whether what is on a drive is the file.
func (s source) isAt(there *fileEntry) bool {
	return there != nil && there.Type == "file" && there.Size == s.size && sameTime(there.ModifiedAt, s.modTime)
}

// sameTime compares times of modification. A small volume's file system keeps
// whole seconds.
func sameTime(there, here time.Time) bool {
	return there.Equal(here) || there.Nanosecond() == 0 && there.Unix() == here.Unix()
}

// persist does something about a place across as many connections as it takes.
func (u uploader) persist(ctx context.Context, at place, do func(out *outage) error) error {
	var out outage
	for {
		err := do(&out)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !passes(err) {
			return fmt.Errorf("%s: %w", at, err)
		}
		if gaveUp := out.wait(ctx); gaveUp != nil {
			return fmt.Errorf("%s: %w: %w; the same command goes on from there", at, gaveUp, err)
		}
	}
}

const tusVersion = "1.0.0"

// attempt goes on with an upload that is known, or begins one, and sends what is
// missing over one connection.
func (u uploader) attempt(ctx context.Context, s source, to place, key string, out *outage) error {
	at, offset, err := u.resume(ctx, u.memory.find(key))
	if err != nil {
		return err
	}
	if at == "" {
		if at, err = u.begin(ctx, s, to); err != nil {
			return err
		}
		u.memory.remember(key, at)
	}
	size := s.size
	if offset == size {
		return nil
	}
	body := &counted{Reader: io.NewSectionReader(s, offset, size-offset), count: func(n int64) { u.meter.show(to.String(), offset+n, size) }}
	resp, _, err := u.exchange(ctx, http.MethodPatch, at, body, size-offset,
		"Tus-Resumable", tusVersion, "Upload-Offset", strconv.FormatInt(offset, 10), "Content-Type", "application/offset+octet-stream")
	if body.n > 0 {
		out.over()
	}
	if err != nil {
		return u.retryable(err, key)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Upload-Offset"); got != strconv.FormatInt(size, 10) {
		return &lostError{u.base, fmt.Errorf("it took %s of %d bytes", got, size)} // and so the rest is sent
	}
	return nil
}

// retryable has errors about where an upload is tried again: it is asked for.
func (u uploader) retryable(err error, key string) error {
	var refused *apiError
	if !errors.As(err, &refused) {
		return err
	}
	switch {
	case refused.Status == http.StatusNotFound && refused.Param == "":
		u.memory.forget(key)
		return &lostError{u.base, err}
	case refused.Status == http.StatusConflict && refused.Param == "", refused.Status == http.StatusBadRequest:
		return &lostError{u.base, err}
	case refused.Status == http.StatusConflict, refused.Status == http.StatusInsufficientStorage:
		// It can't end: what is there of it only takes up room.
		if at := u.memory.find(key); at != "" {
			u.memory.forget(key)
			if resp, _, cancelled := u.exchange(context.Background(), http.MethodDelete, at, nil, 0, "Tus-Resumable", tusVersion); cancelled == nil {
				resp.Body.Close()
			}
		}
	}
	return err
}

// resume asks how far an upload is; "" when there is none any more.
func (u uploader) resume(ctx context.Context, at string) (string, int64, error) {
	if at == "" {
		return "", 0, nil
	}
	resp, _, err := u.exchange(ctx, http.MethodHead, at, nil, 0, "Tus-Resumable", tusVersion)
	var refused *apiError
	if errors.As(err, &refused) && refused.Status < 500 {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	offset, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	return at, offset, err
}

func (u uploader) begin(ctx context.Context, s source, to place) (string, error) {
	word := func(name, value string) string {
		return name + " " + base64.StdEncoding.EncodeToString([]byte(value))
	}
	resp, _, err := u.exchange(ctx, http.MethodPost, to.at("/uploads"), nil, 0,
		"Tus-Resumable", tusVersion, "Upload-Length", strconv.FormatInt(s.size, 10),
		"Upload-Metadata", word("path", to.path)+","+word("overwrite", strconv.FormatBool(u.overwrite))+
			","+word("mtime", s.modTime.Format(time.RFC3339Nano)))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	at, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || at.Path == "" {
		return "", fmt.Errorf("the answer does not say where the upload is: is it an EcoLink of this version?")
	}
	return at.Path, nil
}
