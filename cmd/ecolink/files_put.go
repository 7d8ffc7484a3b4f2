package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
)

func filesPutCommand() *cobra.Command {
	var recursive, overwrite bool
	cmd := &cobra.Command{
		Use:   "put LOCAL... DRIVE:[PATH]",
		Short: "Upload files and folders",
		Long: `Upload files and folders. Where PATH is a folder, or ends in a slash, they go into
it; a single file may be given another name.

An upload that is cut off, also one whose command has ended, goes on where it was
when the same command is given again within a day.`,
		Args: cobra.MinimumNArgs(2),
	}
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "folders with all that is in them, too")
	cmd.Flags().BoolVarP(&overwrite, "force", "f", false, "replace files that are there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newClient()
		if err != nil {
			return err
		}
		sources := args[:len(args)-1]
		to, err := c.places(cmd.Context(), args[len(args)-1])
		if err != nil {
			return err
		}
		memory, err := openUploadMemory()
		if err != nil {
			return err
		}
		u := uploader{client: c, memory: memory, overwrite: overwrite, meter: newMeter(cmd.ErrOrStderr())}
		to[0].folder = to[0].folder || len(sources) > 1
		for _, local := range sources {
			if err := u.put(cmd.Context(), local, to[0], recursive); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// uploader uploads by the tus protocol.
type uploader struct {
	*client
	memory    *uploadMemory
	overwrite bool
	meter     *meter
}

func (u uploader) put(ctx context.Context, local string, to place, recursive bool) error {
	at, err := os.Stat(local)
	if err != nil {
		return err
	}
	full, err := filepath.Abs(local)
	if err != nil {
		return err
	}
	if to, err = u.target(ctx, to, filepath.Base(full)); err != nil {
		return err
	}
	if !at.IsDir() {
		return u.file(ctx, full, to)
	}
	if !recursive {
		return fmt.Errorf("%s is a folder: add -r to upload it with all that is in it", local)
	}
	return filepath.WalkDir(full, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(full, p)
		if err != nil {
			return err
		}
		there := to.in(filepath.ToSlash(below))
		switch {
		case e.IsDir():
			return u.folder(ctx, there)
		case e.Type().IsRegular():
			return u.file(ctx, p, there)
		default:
			u.meter.say("left out %s, which is no file", p)
			return nil
		}
	})
}

func (u uploader) folder(ctx context.Context, at place) error {
	if at.path == "" {
		return nil
	}
	err := u.do(ctx, http.MethodPost, at.at("/files/folders"), map[string]any{"path": at.path}, nil)
	var refused *apiError
	if errors.As(err, &refused) && refused.Status == http.StatusConflict {
		if is, asked := u.isFolder(ctx, at); asked == nil && is {
			return nil
		}
	}
	return err
}

// file uploads one file, across as many connections as it takes.
func (u uploader) file(ctx context.Context, local string, to place) error {
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", local)
	}
	key := fmt.Sprintf("%s %s %s %d %d %t", u.base, to.at("/uploads"), to.path, st.Size(), st.ModTime().UnixNano(), u.overwrite)
	var out outage
	for {
		err := u.attempt(ctx, f, st.Size(), to, key, &out)
		if err == nil {
			u.memory.forget(key)
			u.meter.say("%s -> %s, %s", local, to, byteSize(st.Size()))
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !passes(err) {
			return fmt.Errorf("%s: %w", to, err)
		}
		if gaveUp := out.wait(ctx); gaveUp != nil {
			return fmt.Errorf("%s: %w: %w; the same command goes on from there", to, gaveUp, err)
		}
	}
}

const tusVersion = "1.0.0"

// attempt goes on with an upload that is known, or begins one, and sends what is
// missing over one connection.
func (u uploader) attempt(ctx context.Context, f *os.File, size int64, to place, key string, out *outage) error {
	at, offset, err := u.resume(ctx, u.memory.find(key))
	if err != nil {
		return err
	}
	if at == "" {
		if at, err = u.begin(ctx, size, to); err != nil {
			return err
		}
		u.memory.remember(key, at)
	}
	if offset == size && size > 0 || size == 0 {
		return nil
	}
	body := &counted{Reader: io.NewSectionReader(f, offset, size-offset), count: func(n int64) { u.meter.show(to.String(), offset+n, size) }}
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

func (u uploader) begin(ctx context.Context, size int64, to place) (string, error) {
	word := func(name, value string) string {
		return name + " " + base64.StdEncoding.EncodeToString([]byte(value))
	}
	resp, _, err := u.exchange(ctx, http.MethodPost, to.at("/uploads"), nil, 0,
		"Tus-Resumable", tusVersion, "Upload-Length", strconv.FormatInt(size, 10),
		"Upload-Metadata", word("path", to.path)+","+word("overwrite", strconv.FormatBool(u.overwrite)))
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
