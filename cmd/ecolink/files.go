package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// fileEntry is something in a folder of a volume, as the API tells of it.
type fileEntry struct {
	Name        string    `json:"name"`
	Type        string    `json:"type"` // file, folder, link, other
	Size        int64     `json:"size"`
	Mode        string    `json:"mode"`
	ModifiedAt  time.Time `json:"modified_at"`
	Target      string    `json:"target"`
	LeadsTo     string    `json:"leads_to"`
	Addressable bool      `json:"addressable"`
}

// place is a path on a drive or a shared filesystem.
type place struct {
	drive drive
	kind  storageKind
	path  string // without a slash at either end; "" is the volume itself
	// folder tells that the user wrote a slash at its end, or nothing at all.
	folder bool
}

// String writes it as the user would.
func (p place) String() string { return p.drive.Name + ":" + p.path }

// at is the address of something about the files of the place's volume.
func (p place) at(what string, query ...string) string {
	q := url.Values{}
	for n := 0; n < len(query); n += 2 {
		q.Set(query[n], query[n+1])
	}
	at := p.kind.of(p.drive.ID) + what
	if len(q) > 0 {
		at += "?" + q.Encode()
	}
	return at
}

// in is what is called name in the place.
func (p place) in(name string) place {
	p.path, p.folder = path.Join(p.path, name), false
	return p
}

// places reads DRIVE:path for each argument. What a drive is called is asked for
// once.
func (c *client) places(ctx context.Context, args ...string) ([]place, error) {
	known := map[string]place{}
	out := make([]place, len(args))
	for n, arg := range args {
		name, p, ok := strings.Cut(arg, ":")
		if !ok || name == "" {
			return nil, misuse("%q names no place on a drive: write it as DRIVE:path, or DRIVE: for all of it", arg)
		}
		at, seen := known[name]
		if !seen {
			var err error
			if at, err = c.findVolume(ctx, name); err != nil {
				return nil, err
			}
			known[name] = at
		}
		at.path, at.folder = strings.Trim(p, "/"), p == "" || strings.HasSuffix(p, "/")
		out[n] = at
	}
	return out, nil
}

// findVolume finds a drive or shared filesystem; names are unique among both.
func (c *client) findVolume(ctx context.Context, ref string) (place, error) {
	d, err := c.findDrive(ctx, cloudDrives, ref)
	if err == nil {
		return place{drive: d.V, kind: cloudDrives}, nil
	}
	var refused *apiError
	if !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		return place{}, err
	}
	d, err = c.findDrive(ctx, filesystems, ref)
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		err = notFound("no drive and no shared filesystem is called %q: `ecolink drive ls` and `ecolink filesystem ls` show yours", ref)
	}
	return place{drive: d.V, kind: filesystems}, err
}

// entries yields what is in a folder, page after page.
func (c *client) entries(ctx context.Context, p place) iter.Seq2[record[fileEntry], error] {
	return func(yield func(record[fileEntry], error) bool) {
		query := []string{"path", p.path, "limit", strconv.Itoa(1000)}
		for cursor := ""; ; {
			var found page[fileEntry]
			if err := c.do(ctx, http.MethodGet, p.at("/files", append(query, "cursor", cursor)...), nil, &found); err != nil {
				yield(record[fileEntry]{}, err)
				return
			}
			for _, e := range found.Data {
				if !yield(e, nil) {
					return
				}
			}
			if found.NextCursor == nil {
				return
			}
			cursor = *found.NextCursor
		}
	}
}

// isFolder tells whether a place is a folder that is there.
func (c *client) isFolder(ctx context.Context, p place) (bool, error) {
	err := c.do(ctx, http.MethodGet, p.at("/files", "path", p.path, "limit", "1"), nil, nil)
	var refused *apiError
	if errors.As(err, &refused) && (refused.Status == http.StatusNotFound || refused.Status == http.StatusConflict) && refused.Param == "path" {
		return false, nil
	}
	return err == nil, err
}

// entry tells what is at a place; nil for nothing.
func (c *client) entry(ctx context.Context, p place) (*fileEntry, error) {
	var e fileEntry
	err := c.do(ctx, http.MethodGet, p.at("/files/entry", "path", p.path), nil, &e)
	if isAbsent(err) {
		return nil, nil
	}
	return &e, err
}

// inFlags puts what the API says to do into words of this program.
func inFlags(message string) string {
	return strings.NewReplacer(
		"choose another name, or overwrite it", "choose another name, or replace it with -f",
		"remove what is in it, too, with recursive", "`ecolink files rm -r` removes it with what is in it",
	).Replace(message)
}

// reworded is an error of the API, with its message put otherwise.
func reworded(err error, words func(string) string) error {
	var refused *apiError
	if !errors.As(err, &refused) {
		return err
	}
	said := *refused
	said.Message = words(said.Message)
	return &said
}

func filesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "files",
		Aliases: []string{"file"},
		Short:   "Work with the files on drives and shared filesystems",
		Long: `Work with the files on drives and shared filesystems, attached to instances or not.

A place is written DRIVE:path, where DRIVE is the name or number of a drive or a
shared filesystem. Transfers that are cut off go on where they were.`,
		Example: `  ecolink files put -r ./dataset data:dataset
  ecolink files ls data:dataset
  ecolink files get data:checkpoints/last.pt .
  ecolink files mv data:runs/7 data:old/7
  ecolink files rm -r data:old`,
	}
	cmd.AddCommand(filesListCommand(), filesGetCommand(), filesPutCommand(), filesRemoveCommand(), filesMoveCommand(), filesFolderCommand())
	return cmd
}

func filesListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ls DRIVE:[PATH]", Aliases: []string{"list"}, Short: "List a folder", Args: cobra.ExactArgs(1), ValidArgsFunction: completeVolume}
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		at, err := c.places(cmd.Context(), args...)
		if err != nil {
			return err
		}
		all, err := collect(c.entries(cmd.Context(), at[0]))
		if err != nil {
			return err
		}
		return p.show(all, func(w io.Writer) {
			row(w, "MODE", "SIZE", "CHANGED", "NAME")
			for _, r := range all {
				row(w, r.V.Mode, r.V.sizeWords(), moment(&r.V.ModifiedAt), r.V.nameWords())
			}
		})
	})
	return cmd
}

func (e fileEntry) sizeWords() string {
	if e.Type != "file" {
		return e.Type
	}
	return byteSize(e.Size)
}

func (e fileEntry) nameWords() string {
	switch {
	case e.Type == "folder":
		return e.Name + "/"
	case e.Type == "link":
		return e.Name + " -> " + e.Target
	default:
		return e.Name
	}
}

func filesRemoveCommand() *cobra.Command {
	var recursive bool
	cmd := &cobra.Command{
		Use: "rm DRIVE:PATH...", Aliases: []string{"delete"}, Short: "Remove files, links and folders",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeVolume,
	}
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "folders with all that is in them, too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newClient()
		if err != nil {
			return err
		}
		all, err := c.places(cmd.Context(), args...)
		if err != nil {
			return err
		}
		for _, at := range all {
			if err := c.removeFile(cmd.Context(), at, recursive); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", printable(at.String()))
		}
		return nil
	}
	return cmd
}

// removeFile goes on where a try was cut off, which may have removed all of it.
func (c *client) removeFile(ctx context.Context, at place, recursive bool) error {
	path := at.at("/files", "path", at.path, "recursive", strconv.FormatBool(recursive))
	var out outage
	for tried := false; ; tried = true {
		_, err := c.fetch(ctx, request{method: http.MethodDelete, path: path})
		var refused *apiError
		if tried && errors.As(err, &refused) && refused.Status == http.StatusNotFound {
			return nil
		}
		if !errors.As(err, new(*lostError)) {
			return reworded(err, inFlags)
		}
		if gaveUp := out.wait(ctx); gaveUp != nil {
			return errors.Join(gaveUp, err)
		}
	}
}

func filesMoveCommand() *cobra.Command {
	var overwrite bool
	cmd := &cobra.Command{
		Use: "mv DRIVE:FROM DRIVE:TO", Aliases: []string{"move", "rename"}, Short: "Rename or move a file or folder within a drive",
		Long: "Rename or move a file or folder within a drive. Where TO is a folder, FROM goes into it.",
		Args: cobra.ExactArgs(2), ValidArgsFunction: completeVolume,
	}
	cmd.Flags().BoolVarP(&overwrite, "force", "f", false, "replace what is there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newClient()
		if err != nil {
			return err
		}
		at, err := c.places(cmd.Context(), args...)
		if err != nil {
			return err
		}
		from, to := at[0], at[1]
		if from.drive.ID != to.drive.ID {
			return misuse("files move within one drive: get them from the one and put them on the other")
		}
		if to, err = c.target(cmd.Context(), to, path.Base(from.path)); err != nil {
			return err
		}
		body := map[string]any{"from": from.path, "to": to.path, "overwrite": overwrite}
		if err := c.do(cmd.Context(), http.MethodPost, from.at("/files/move"), body, nil); err != nil {
			return reworded(err, inFlags)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is now %s\n", printable(from.String()), printable(to.String()))
		return nil
	}
	return cmd
}

// target is where something of a name goes: into the place, if that is a folder.
func (c *client) target(ctx context.Context, to place, name string) (place, error) {
	folder := to.folder
	if !folder {
		var err error
		if folder, err = c.isFolder(ctx, to); err != nil {
			return to, err
		}
	}
	if folder {
		to = to.in(name)
	}
	return to, nil
}

func filesFolderCommand() *cobra.Command {
	return &cobra.Command{
		Use: "mkdir DRIVE:PATH", Short: "Make a folder, and those above it", Args: cobra.ExactArgs(1), ValidArgsFunction: completeVolume,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient()
			if err != nil {
				return err
			}
			at, err := c.places(cmd.Context(), args...)
			if err != nil {
				return err
			}
			err = c.do(cmd.Context(), http.MethodPost, at[0].at("/files/folders"), map[string]any{"path": at[0].path}, nil)
			return reworded(err, func(said string) string { return strings.TrimSuffix(said, ", or overwrite it") })
		},
	}
}

// completeVolume offers the names of drives and shared filesystems to the shell.
func completeVolume(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	names := append(driveNames(cmd.Context(), cloudDrives, ":"), driveNames(cmd.Context(), filesystems, ":")...)
	return names, cobra.ShellCompDirectiveNoSpace
}
