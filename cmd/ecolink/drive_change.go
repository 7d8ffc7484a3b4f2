package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

// driveChange is a change of a drive: how it is asked for, and what is said once it
// is done.
type driveChange struct {
	request
	said func(drive) string
}

// changing completes a command that changes the drive, or filesystem, which its
// first argument names.
func (k storageKind) changing(cmd *cobra.Command, change func(d drive, args []string) (driveChange, error)) *cobra.Command {
	cmd.ValidArgsFunction = completeDrive(k)
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		d, err := c.findDrive(cmd.Context(), k, args[0])
		if err != nil {
			return err
		}
		do, err := change(d.V, args[1:])
		if err != nil {
			return err
		}
		return c.driveCall(cmd, p, k, do.request, do.said)
	})
	return cmd
}

func (k storageKind) snapshot(d drive, name string) string {
	return k.of(d.ID) + "/snapshots/" + url.PathEscape(name)
}

func driveCreateCommand(k storageKind) *cobra.Command {
	var gb int64
	var path string
	cmd := &cobra.Command{
		Use:   "create NAME --size GB",
		Short: "Create a " + k.words + " and wait until it is available",
		Example: fmt.Sprintf(`  ecolink %[1]s create data --size 200
  ecolink instance launch --gpu-type h100 --image ubuntu:24.04 --hours 2 --%[1]s data:/data`, k.command),
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().Int64Var(&gb, "size", 0, "size in GB of 10⁹ bytes, 1 at least")
	cmd.MarkFlagRequired("size")
	if k == filesystems {
		cmd.Flags().StringVar(&path, "mount-path", "", "where it is mounted when a launch does not say; /shared when left out")
	}
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		in := map[string]any{"name": args[0], "size_gb": gb}
		if path != "" {
			in["mount_path"] = path
		}
		return c.driveCall(cmd, p, k, request{method: http.MethodPost, path: k.path, in: in, key: newIdempotencyKey()}, func(d drive) string {
			return fmt.Sprintf("%s of %d GB is %s", k.title(d), d.SizeGB, d.State)
		})
	})
	return cmd
}

func driveCloneCommand(k storageKind) *cobra.Command {
	var gb int64
	var snapshot string
	cmd := &cobra.Command{
		Use:   "clone " + k.argument() + " NEW-NAME",
		Short: "Make a new " + k.words + " with what another has, or one of its snapshots",
		Args:  cobra.ExactArgs(2),
	}
	cmd.Flags().Int64Var(&gb, "size", 0, "size in GB of 10⁹ bytes; as large as the other when left out")
	cmd.Flags().StringVar(&snapshot, "snapshot", "", "what it had then; what it has now when left out")
	return k.changing(cmd, func(from drive, args []string) (driveChange, error) {
		source := map[string]any{"id": from.ID}
		if snapshot != "" {
			source["snapshot"] = snapshot
		}
		in := map[string]any{"name": args[0], "clone_of": source}
		if cmd.Flags().Changed("size") {
			in["size_gb"] = gb
		}
		return driveChange{
			request{method: http.MethodPost, path: k.path, in: in, key: newIdempotencyKey()},
			func(d drive) string {
				return fmt.Sprintf("%s of %d GB is %s, with what %s had", k.title(d), d.SizeGB, d.State, k.title(from))
			},
		}, nil
	})
}

func driveGrowCommand(k storageKind) *cobra.Command {
	var gb int64
	cmd := &cobra.Command{
		Use:   "grow " + k.argument() + " --size GB",
		Short: "Make a " + k.words + " larger, also while it is attached",
		Long: "Make a " + k.words + ` larger, also while it is attached.

The new size is paid for from now on, and the balance must cover the next 24 hours of
it. It can't be made smaller again. On a machine that can't enlarge what is in use, the
files get the new room once all have detached it and it is attached again; the answer
says so.`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().Int64Var(&gb, "size", 0, "the size to grow to, in GB of 10⁹ bytes")
	cmd.MarkFlagRequired("size")
	return k.changing(cmd, func(d drive, _ []string) (driveChange, error) {
		return driveChange{
			request{method: http.MethodPatch, path: k.of(d.ID), in: map[string]int64{"size_gb": gb}, repeatable: true},
			func(d drive) string {
				if d.Notice != "" {
					return fmt.Sprintf("%s is to have %d GB; %s; %s", k.title(d), d.SizeGB, d.Notice, d.paidFor(" from now on"))
				}
				return fmt.Sprintf("%s has %d GB; %s", k.title(d), d.SizeGB, d.paidFor(" from now on"))
			},
		}, nil
	})
}

func driveDeleteCommand(k storageKind) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete " + k.argument(),
		Short: "Delete a " + k.words + " with all that is in it",
		Long: "Delete a " + k.words + ` with all that is in it, and its snapshots.

It must be available. What it cost until now is charged. This can't be undone: it
asks for the name, unless --yes is given.`,
		Args: cobra.ExactArgs(1),
	}
	confirm := confirming(cmd)
	return k.changing(cmd, func(d drive, _ []string) (driveChange, error) {
		return driveChange{
			request{method: http.MethodDelete, path: k.of(d.ID), repeatable: true},
			func(d drive) string { return k.title(d) + " is being deleted" },
		}, confirm(deletes(k.title(d)), d.Name)
	})
}

func driveSnapshotCommand(k storageKind) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot " + k.argument() + " NAME",
		Short: "Keep what a " + k.words + " has now under a name, also while it is attached",
		Long: "Keep what a " + k.words + ` has now under a name, also while it is attached.

A snapshot costs as much as storage of its kind does, by the day until its deletion is
asked for: what it takes of the disk in whole GB, 1 at least. ` + "`ecolink " + k.command + " show`" + ` says
how much that is.`,
		Args: cobra.ExactArgs(2),
	}
	return k.changing(cmd, func(d drive, args []string) (driveChange, error) {
		return driveChange{
			request{method: http.MethodPost, path: k.of(d.ID) + "/snapshots", in: map[string]string{"name": args[0]}, key: newIdempotencyKey()},
			func(d drive) string {
				return fmt.Sprintf("%s has the snapshot %s; %s", k.title(d), args[0], d.paidFor(" from now on"))
			},
		}, nil
	})
}

func driveDeleteSnapshotCommand(k storageKind) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete-snapshot " + k.argument() + " NAME",
		Short: "Delete a snapshot of a " + k.words,
		Long: "Delete a snapshot of a " + k.words + `, which itself stays as it is.

This can't be undone: it asks for the snapshot's name, unless --yes is given.`,
		Args: cobra.ExactArgs(2),
	}
	confirm := confirming(cmd)
	return k.changing(cmd, func(d drive, args []string) (driveChange, error) {
		lost := loss{fmt.Sprintf("the snapshot %s of %s is deleted", args[0], k.title(d)), "the snapshot's name"}
		return driveChange{
			request{method: http.MethodDelete, path: k.snapshot(d, args[0]), repeatable: true},
			func(d drive) string {
				return fmt.Sprintf("the snapshot %s of %s is being deleted", args[0], k.title(d))
			},
		}, confirm(lost, args[0])
	})
}

func driveRestoreCommand(k storageKind) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore " + k.argument() + " SNAPSHOT",
		Short: "Put a " + k.words + " back to a snapshot; what was written since is lost",
		Long: "Put a " + k.words + ` back to a snapshot. What was written since is lost.

It must be available. This can't be undone: it asks for the name of the ` + k.words + `,
unless --yes is given.`,
		Args: cobra.ExactArgs(2),
	}
	confirm := confirming(cmd)
	return k.changing(cmd, func(d drive, args []string) (driveChange, error) {
		lost := loss{fmt.Sprintf("what was written to %s since the snapshot %s is lost", k.title(d), args[0]), "the name of the " + k.words}
		return driveChange{
			request{method: http.MethodPost, path: k.snapshot(d, args[0]) + "/restore", key: newIdempotencyKey()},
			func(d drive) string { return fmt.Sprintf("%s has again what the snapshot %s has", k.title(d), args[0]) },
		}, confirm(lost, d.Name)
	})
}
