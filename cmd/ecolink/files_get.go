package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func filesGetCommand() *cobra.Command {
	var recursive, overwrite bool
	cmd := &cobra.Command{
		Use:   "get DRIVE:PATH [LOCAL]",
		Short: "Download a file or a folder",
		Long: `Download a file or a folder. LOCAL is where it goes: a folder that is there, a new
name, or - for standard output; without it, the current folder.

A download that is cut off goes on where it was. A file has its name once all of it
is here.`,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: completeVolume,
	}
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "a folder with all that is in it")
	cmd.Flags().BoolVarP(&overwrite, "force", "f", false, "replace files that are there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newClient()
		if err != nil {
			return err
		}
		at, err := c.places(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		local := "."
		if len(args) == 2 {
			local = args[1]
		}
		g := getter{client: c, overwrite: overwrite, meter: newMeter(cmd.ErrOrStderr())}
		from := at[0]
		folder := from.path == ""
		if !folder {
			if folder, err = c.isFolder(cmd.Context(), from); err != nil {
				return err
			}
		}
		if local == "-" {
			if folder {
				return misuse("%s is a folder: get it with -r into a folder", from)
			}
			return g.stream(cmd.Context(), from, cmd.OutOrStdout())
		}
		name := path.Base(from.path)
		if from.path == "" {
			name = from.drive.Name
		}
		if st, err := os.Stat(local); err == nil && st.IsDir() {
			local = filepath.Join(local, name)
		}
		if !folder {
			return g.file(cmd.Context(), from, local)
		}
		if !recursive {
			return misuse("%s is a folder: add -r to download it with all that is in it", from)
		}
		return g.folder(cmd.Context(), from, local)
	}
	return cmd
}

type getter struct {
	*client
	overwrite bool
	meter     *meter
}

// folder downloads all that is in one. Names come from whoever writes to the
// drive: one that would lead out of the local folder is refused.
func (g getter) folder(ctx context.Context, from place, local string) error {
	if err := os.MkdirAll(local, 0o777); err != nil {
		return fmt.Errorf("the folder %s can't be made: %w", local, err)
	}
	for e, err := range g.entries(ctx, from) {
		if err != nil {
			return err
		}
		there, here := from.in(e.V.Name), filepath.Join(local, e.V.Name)
		switch {
		case !e.V.Addressable || !filepath.IsLocal(e.V.Name) || strings.ContainsRune(e.V.Name, filepath.Separator):
			g.meter.say("left out %s, whose name can't be used here", there)
		case e.V.Type == "folder":
			if err := g.folder(ctx, there, here); err != nil {
				return err
			}
		case e.V.Type == "file":
			if err := g.file(ctx, there, here); err != nil {
				return err
			}
		default:
			g.meter.say("left out %s, which is no file", there)
		}
	}
	return nil
}

func (g getter) file(ctx context.Context, from place, local string) (err error) {
	if _, err := os.Lstat(local); err == nil && !g.overwrite {
		return fmt.Errorf("%s is there already: add -f to replace it", local)
	}
	part, err := os.CreateTemp(filepath.Dir(local), ".ecolink-*.part")
	if err != nil {
		return cannotWrite(local, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part.Name()))
		}
	}()
	modified, err := g.fetchInto(ctx, from, part)
	if isAbout(err, part) {
		err = cannotWrite(local, err)
	}
	err = errors.Join(err, part.Chmod(0o644), part.Close())
	if err == nil && !modified.IsZero() {
		err = os.Chtimes(part.Name(), time.Time{}, modified)
	}
	if err == nil {
		if err = os.Rename(part.Name(), local); err != nil {
			err = cannotWrite(local, err)
		}
	}
	if err == nil {
		g.meter.say("%s -> %s", from, local)
	}
	return err
}

// fetchInto downloads a file across as many connections as it takes, and tells when
// it was last modified, if that is known. When it was changed meanwhile, it begins
// anew.
func (g getter) fetchInto(ctx context.Context, from place, f *os.File) (modified time.Time, err error) {
	var out outage
	d := download{from: from, file: f}
	for {
		before := d.have
		err := g.piece(ctx, &d)
		if d.have != before {
			out.over()
		}
		if err == nil || ctx.Err() != nil {
			return d.modified, errors.Join(err, context.Cause(ctx))
		}
		if !passes(err) {
			return time.Time{}, fmt.Errorf("%s: %w", from, err)
		}
		if gaveUp := out.wait(ctx); gaveUp != nil {
			return time.Time{}, fmt.Errorf("%s: %w: %w", from, gaveUp, err)
		}
	}
}

// download is how far one file is, and of which version of it that much is.
type download struct {
	from place
	file *os.File
	have int64
	etag string
	// modified is when that version was; the zero time when it is not known.
	modified time.Time
}

// piece adds to the file what comes over one connection.
func (g getter) piece(ctx context.Context, d *download) error {
	var header []string
	if d.have > 0 {
		header = []string{"Range", fmt.Sprintf("bytes=%d-", d.have), "If-Range", d.etag}
	}
	resp, alive, err := g.exchange(ctx, http.MethodGet, d.from.at("/files/content", "path", d.from.path), nil, 0, header...)
	var refused *apiError
	if errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable {
		d.have = 0 // it has become shorter: from its beginning
		return &lostError{g.base, err}
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		d.have = 0
	}
	d.etag = resp.Header.Get("ETag")
	d.modified, _ = http.ParseTime(resp.Header.Get("Last-Modified"))
	if err := errors.Join(d.file.Truncate(d.have), seekTo(d.file, d.have)); err != nil {
		return err
	}
	had, size := d.have, d.have+max(0, resp.ContentLength)
	body := &counted{Reader: resp.Body, count: func(n int64) { alive(); g.meter.show(d.from.String(), had+n, size) }}
	n, err := io.Copy(d.file, body)
	d.have += n
	if err != nil && n == body.n { // nothing that came was not written: it is not the disk's
		err = &lostError{g.base, err}
	}
	return err
}

func seekTo(f *os.File, at int64) error {
	_, err := f.Seek(at, io.SeekStart)
	return err
}

// stream downloads a file to where nothing can be taken back: over one connection.
func (g getter) stream(ctx context.Context, from place, w io.Writer) error {
	resp, alive, err := g.exchange(ctx, http.MethodGet, from.at("/files/content", "path", from.path), nil, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(w, &noticing{resp.Body, alive})
	if want := resp.Header.Get("Content-Length"); err == nil && want != "" && want != strconv.FormatInt(n, 10) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s broke off after %s: %w", from, byteSize(n), err)
	}
	return nil
}
