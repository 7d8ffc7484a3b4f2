package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func filesPutCommand() *cobra.Command {
	var recursive, overwrite bool
	cmd := &cobra.Command{
		Use:   "put LOCAL... DRIVE:[PATH]",
		Short: "Upload files and folders",
		Long: `Upload files and folders.

A single folder becomes PATH: what is in it is in PATH then, whether that was there
or not. Where PATH ends in a slash, or there is none, the folder goes into it under
its own name; DRIVE:. is the drive itself. A single file becomes PATH too, or goes into it where that is a folder
or ends in a slash. Several files and folders all go into PATH.

When an upload is cut off, also by the end of the command, give the same command
again: it goes on where it was, within a day, in the middle of a file, too. A file
that is there with the same size and time of modification is not sent again. One
that differs is left as it is, and the command ends with status 5 once all others
are there; with -f it is replaced.`,
		Example: `  ecolink files put -r ./corpus data:corpus     # ./corpus/a.txt is data:corpus/a.txt
  ecolink files put -r ./corpus data:           # the same
  ecolink files put -r ./corpus data:sets/      # it is data:sets/corpus/a.txt
  ecolink files put model.pt data:models/`,
		Args: cobra.MinimumNArgs(2),
	}
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "folders with all that is in them, too")
	cmd.Flags().BoolVarP(&overwrite, "force", "f", false, "replace files that are there and differ")
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
		u := uploader{client: c, memory: memory, overwrite: overwrite, meter: newMeter(cmd.ErrOrStderr()), tally: &tally{}}
		to[0].folder = to[0].folder || len(sources) > 1
		for _, local := range sources {
			if err := u.put(cmd.Context(), local, to[0], recursive); err != nil {
				return err
			}
		}
		if u.tally.kept > 0 {
			u.meter.say("already there: %d", u.tally.kept)
		}
		return u.tally.err()
	}
	return cmd
}

// put uploads a file or a folder. Where a folder goes depends on how the place is
// written and not on what is there, so that the same command does the same again.
func (u uploader) put(ctx context.Context, local string, to place, recursive bool) error {
	at, err := os.Stat(local)
	if err != nil {
		return cannotRead(local, err)
	}
	full, err := filepath.Abs(local)
	if err != nil {
		return err
	}
	name := filepath.Base(full)
	if at.IsDir() {
		if !recursive {
			return misuse("%s is a folder: add -r to upload it with all that is in it", local)
		}
		if to.folder {
			to = to.in(name)
		}
		return u.settle(to, u.tree(ctx, full, to))
	}
	goal, there := to, (*fileEntry)(nil)
	err = u.persist(ctx, to, func(*outage) (err error) {
		if goal, err = u.target(ctx, to, name); err == nil {
			there, err = u.entry(ctx, goal)
		}
		return err
	})
	if err != nil {
		return err
	}
	return u.settle(goal, u.file(ctx, full, goal, there))
}

// tree uploads what is in a folder. What can't be put because something else is in
// its place does not keep the rest from it.
func (u uploader) tree(ctx context.Context, local string, to place) error {
	entries, err := os.ReadDir(local)
	if err != nil {
		return cannotRead(local, err)
	}
	there, err := u.there(ctx, to, entries)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, at := filepath.Join(local, e.Name()), to.in(e.Name())
		switch {
		case e.IsDir():
			err = u.tree(ctx, from, at)
		case e.Type().IsRegular():
			err = u.file(ctx, from, at, there[e.Name()])
		default:
			u.meter.say("left out %s, which is no file", from)
			continue
		}
		if err := u.settle(at, err); err != nil {
			return err
		}
	}
	return nil
}

// there gives what a place has of the names of a local folder; no more is kept,
// however much is there. A folder that is not there is made.
func (u uploader) there(ctx context.Context, to place, local []fs.DirEntry) (map[string]*fileEntry, error) {
	there := make(map[string]*fileEntry, len(local))
	for _, e := range local {
		there[e.Name()] = nil
	}
	err := u.persist(ctx, to, func(*outage) error {
		for e, err := range u.entries(ctx, to) {
			if err != nil {
				return err
			}
			if _, wanted := there[e.V.Name]; wanted && e.V.Addressable {
				found := e.V // without the rest of its record
				there[found.Name] = &found
			}
		}
		return nil
	})
	if isAbsent(err) {
		err = u.persist(ctx, to, func(*outage) error { return u.folder(ctx, to) })
	}
	return there, err
}

func isAbsent(err error) bool {
	var refused *apiError
	return errors.As(err, &refused) && refused.Status == http.StatusNotFound && refused.Param == "path"
}

func (u uploader) folder(ctx context.Context, at place) error {
	err := u.do(ctx, http.MethodPost, at.at("/files/folders"), map[string]any{"path": at.path}, nil)
	var refused *apiError
	if errors.As(err, &refused) && refused.Status == http.StatusConflict {
		if is, asked := u.isFolder(ctx, at); asked == nil && is {
			return nil
		}
	}
	return err
}

// settle notes that something could not be put because of what is in its place.
// Any other error is given back: it ends the command.
func (u uploader) settle(at place, err error) error {
	var taken *takenError
	var refused *apiError
	switch {
	case errors.As(err, &taken):
	case isTaken(err) && errors.As(err, &refused): // it came just now, or is on the way there
		taken = &takenError{at, "can't be put: " + inFlags(refused.Message)}
	default:
		return err
	}
	if !u.tally.leave(taken) {
		u.meter.say("%s", taken)
	}
	return nil
}

// isTaken tells whether a path was refused because of what is there.
func isTaken(err error) bool {
	var refused *apiError
	return errors.As(err, &refused) && refused.Status == http.StatusConflict && refused.Param == "path"
}

// takenError is a place that has something else.
type takenError struct {
	at  place
	why string
}

func (e *takenError) Error() string { return printable(e.at.String() + " " + e.why) }

// maxTold is how many places an error names.
const maxTold = 20

// tally counts what became of a command's files.
type tally struct {
	kept int // were there already
	left int // have something else in their place, which was left as it is
	told []string
}

// leave counts a place, and tells whether the error at the end will name it.
func (t *tally) leave(taken *takenError) bool {
	if t.left++; t.left > maxTold {
		return false
	}
	t.told = append(t.told, taken.Error())
	return true
}

// err tells what was not put: a conflict, for those who look at the exit status.
func (t *tally) err() error {
	if t.left == 0 {
		return nil
	}
	told := t.told[0]
	if t.left > 1 {
		told = fmt.Sprintf("%d were not put:\n  %s", t.left, strings.Join(t.told, "\n  "))
	}
	if more := t.left - len(t.told); more > 0 {
		told += fmt.Sprintf("\n  and %d more", more)
	}
	return &apiError{Status: http.StatusConflict, Code: "conflict", Message: told}
}
