package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// drive is a cloud drive or a shared filesystem as the API tells of it.
type drive struct {
	ID        int64  `json:"id"`
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	MountPath string `json:"mount_path"`
	SizeGB    int64  `json:"size_gb"`
	Growing   bool   `json:"growing"`
	BilledGB  int64  `json:"billed_gb"`
	Usage     *struct {
		CapacityBytes int64 `json:"capacity_bytes"`
		FreeBytes     int64 `json:"free_bytes"`
	} `json:"usage"`
	State       string `json:"state"`
	Problem     string `json:"problem"`
	Notice      string `json:"notice"`
	Attachments []struct {
		InstanceID int64     `json:"instance_id"`
		Path       string    `json:"path"`
		Since      time.Time `json:"since"`
	} `json:"attachments"`
	Snapshots []struct {
		Name      string    `json:"name"`
		CreatedAt time.Time `json:"created_at"`
		SizeGB    int64     `json:"size_gb"`
		UsedBytes int64     `json:"used_bytes"`
		State     string    `json:"state"`
	} `json:"snapshots"`
	CreatedAt time.Time `json:"created_at"`
	History   []struct {
		State  string    `json:"state"`
		At     time.Time `json:"at"`
		Reason string    `json:"reason"`
	} `json:"history"`
}

// storageKind is what the two commands, drive and filesystem, differ in.
type storageKind struct {
	command string // "drive"
	words   string // in a sentence
	path    string // in the API
	short   string
}

var (
	cloudDrives = storageKind{"drive", "drive", "/v1/drives", "Keep files on drives that outlive instances"}
	filesystems = storageKind{"filesystem", "shared filesystem", "/v1/shared-filesystems", "Keep files where many instances have them at once"}
)

func (k storageKind) of(id int64) string { return fmt.Sprintf("%s/%d", k.path, id) }

// title names one in a sentence.
func (k storageKind) title(d drive) string { return fmt.Sprintf("%s %d (%s)", k.words, d.ID, d.Name) }

// over tells whether it is no drive any more that one can use.
func (d drive) over() bool {
	return d.State == "failed" || d.State == "deleting" || d.State == "deleted"
}

// used is how full it is, in words.
func (d drive) used() string {
	if d.Usage == nil {
		return ""
	}
	return fmt.Sprintf("%s of %s", byteSize(d.Usage.CapacityBytes-d.Usage.FreeBytes), byteSize(d.Usage.CapacityBytes))
}

// paidFor says how much of it is paid for, and from when on, if that matters.
func (d drive) paidFor(from string) string {
	return fmt.Sprintf("%d GB are paid for%s, with its snapshots", d.BilledGB, from)
}

// remark is the one thing to know about its state.
func (d drive) remark() string {
	switch {
	case d.Problem != "":
		return d.Problem
	case d.Notice != "":
		return d.Notice
	case d.State == "suspended":
		return "add credit, and it is back by itself"
	}
	var at []string
	for _, a := range d.Attachments {
		at = append(at, fmt.Sprintf("instance %d at %s", a.InstanceID, a.Path))
	}
	return strings.Join(at, ", ")
}

func (d drive) details(w io.Writer) {
	line := func(name string, value any) {
		if fmt.Sprint(value) != "" {
			row(w, name, value)
		}
	}
	line("id", d.ID)
	line("name", d.Name)
	line("state", d.State)
	line("problem", d.Problem)
	line("notice", d.Notice)
	line("size", fmt.Sprintf("%d GB; %s", d.SizeGB, d.paidFor("")))
	line("used", d.used())
	line("mounted at", d.MountPath)
	for _, a := range d.Attachments {
		row(w, "attached", fmt.Sprintf("instance %d at %s since %s", a.InstanceID, a.Path, moment(&a.Since)))
	}
	for _, s := range d.Snapshots {
		row(w, "snapshot", fmt.Sprintf("%s, %s, of %s, %d GB, takes %s", s.Name, s.State, moment(&s.CreatedAt), s.SizeGB, byteSize(s.UsedBytes)))
	}
	for _, c := range d.History {
		row(w, c.State, moment(&c.At), c.Reason)
	}
}

func storageCommand(k storageKind) *cobra.Command {
	cmd := &cobra.Command{
		Use:     k.command,
		Aliases: []string{k.command + "s"},
		Short:   k.short,
		Long: k.short + `.

Each is named by its number or its name. It is paid for by the day, for its whole
size, from when it is available until its deletion is asked for. A GB is 10⁹ bytes;
what the file system in it needs for itself comes out of that.`,
	}
	cmd.AddCommand(driveListCommand(k), driveShowCommand(k), driveCreateCommand(k), driveGrowCommand(k), driveDeleteCommand(k),
		driveSnapshotCommand(k), driveDeleteSnapshotCommand(k), driveRestoreCommand(k), driveCloneCommand(k))
	return cmd
}

func driveListCommand(k storageKind) *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the account's " + k.words + "s", Args: cobra.NoArgs}
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		found, err := collect(list[drive](cmd.Context(), c, k.path, 0))
		if err != nil {
			return err
		}
		return p.show(found, func(w io.Writer) {
			row(w, "ID", "NAME", "STATE", "SIZE", "USED", "SNAPSHOTS", "REMARK")
			for _, r := range found {
				d := r.V
				row(w, d.ID, d.Name, d.State, fmt.Sprintf("%d GB", d.SizeGB), d.used(), len(d.Snapshots), d.remark())
			}
		})
	})
	return cmd
}

func driveShowCommand(k storageKind) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show " + k.argument(), Short: "Show all that is known of a " + k.words,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeDrive(k),
	}
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		d, err := c.findDrive(cmd.Context(), k, args[0])
		if err != nil {
			return err
		}
		return p.show(d, d.V.details)
	})
	return cmd
}

// argument is how a command's usage calls one of them.
func (k storageKind) argument() string { return strings.ToUpper(k.command) }

// waitForDrive waits until nothing more is being done to it, of what done says. One
// that fails meanwhile is an error.
func (c *client) waitForDrive(ctx context.Context, k storageKind, d record[drive], done func(drive) bool) (record[drive], error) {
	var off outage
	for !done(d.V) {
		var broke error
		for data, err := range c.events(ctx, k.of(d.V.ID)+"?watch=true") {
			var now record[drive]
			if err == nil {
				err = json.Unmarshal(data, &now)
			}
			if err != nil {
				broke = err
				break
			}
			off.over()
			if d = now; done(d.V) || d.V.State == "failed" {
				break
			}
		}
		if d.V.State == "failed" {
			return d, fmt.Errorf("%s could not be made: %s", k.title(d.V), d.V.Problem)
		}
		if done(d.V) {
			break
		}
		if broke != nil && !transient(broke) {
			return d, broke
		}
		if err := errors.Join(off.wait(ctx), pause(ctx, time.Second/4)); err != nil {
			return d, errors.Join(err, broke)
		}
	}
	return d, nil
}

// settled says that a drive is what was asked for.
func (d drive) settled() bool {
	for _, s := range d.Snapshots {
		if s.State != "ready" {
			return false
		}
	}
	return d.State != "pending" && !(d.Growing && !d.over())
}

// driveCall sends a change, waits until it is done, and says so.
func (c *client) driveCall(cmd *cobra.Command, p printer, k storageKind, r request, said func(drive) string) error {
	var d record[drive]
	err := c.call(cmd.Context(), r, &d)
	if lost := (*lostError)(nil); errors.As(err, &lost) {
		return fmt.Errorf("%w; whether it was done is not known: see `ecolink %s ls`", err, k.command)
	}
	if err != nil {
		return err
	}
	if r.method != http.MethodDelete {
		if d, err = c.waitForDrive(cmd.Context(), k, d, drive.settled); err != nil {
			return err
		}
		if d.V.Problem != "" {
			return fmt.Errorf("%s: %s", k.title(d.V), d.V.Problem)
		}
	}
	return p.show(d, func(w io.Writer) { fmt.Fprintln(w, said(d.V)) })
}
