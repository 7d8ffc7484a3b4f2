package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

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
		Use:               "clone " + k.argument() + " NEW-NAME",
		Short:             "Make a new " + k.words + " with what another has, or one of its snapshots",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeDrive(k),
	}
	cmd.Flags().Int64Var(&gb, "size", 0, "size in GB of 10⁹ bytes; as large as the other when left out")
	cmd.Flags().StringVar(&snapshot, "snapshot", "", "what it had then; what it has now when left out")
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		from, err := c.findDrive(cmd.Context(), k, args[0])
		if err != nil {
			return err
		}
		source := map[string]any{"id": from.V.ID}
		if snapshot != "" {
			source["snapshot"] = snapshot
		}
		in := map[string]any{"name": args[1], "clone_of": source}
		if cmd.Flags().Changed("size") {
			in["size_gb"] = gb
		}
		return c.driveCall(cmd, p, k, request{method: http.MethodPost, path: k.path, in: in, key: newIdempotencyKey()}, func(d drive) string {
			return fmt.Sprintf("%s of %d GB is %s, with what %s had", k.title(d), d.SizeGB, d.State, k.title(from.V))
		})
	})
	return cmd
}

func driveGrowCommand(k storageKind) *cobra.Command {
	var gb int64
	cmd := &cobra.Command{
		Use:               "grow " + k.argument() + " --size GB",
		Short:             "Make a " + k.words + " larger, also while it is attached",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDrive(k),
	}
	cmd.Flags().Int64Var(&gb, "size", 0, "the size to grow to, in GB of 10⁹ bytes")
	cmd.MarkFlagRequired("size")
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		d, err := c.findDrive(cmd.Context(), k, args[0])
		if err != nil {
			return err
		}
		r := request{method: http.MethodPatch, path: k.of(d.V.ID), in: map[string]int64{"size_gb": gb}, repeatable: true}
		return c.driveCall(cmd, p, k, r, func(d drive) string {
			if d.Notice != "" {
				return fmt.Sprintf("%s is to have %d GB; %s", k.title(d), d.SizeGB, d.Notice)
			}
			return fmt.Sprintf("%s has %d GB", k.title(d), d.SizeGB)
		})
	})
	return cmd
}

func driveDeleteCommand(k storageKind) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete " + k.argument(),
		Short: "Delete a " + k.words + " with all that is in it",
		Long: "Delete a " + k.words + ` with all that is in it, and its snapshots.

It must be available. What it cost until now is charged. This can't be undone: it
asks for the name, unless --yes is given.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDrive(k),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		d, err := c.findDrive(cmd.Context(), k, args[0])
		if err != nil {
			return err
		}
		if !yes {
			if err := askForName(cmd, k.title(d.V), d.V.Name); err != nil {
				return err
			}
		}
		r := request{method: http.MethodDelete, path: k.of(d.V.ID), repeatable: true}
		return c.driveCall(cmd, p, k, r, func(d drive) string { return k.title(d) + " is being deleted" })
	})
	return cmd
}

// askForName has a person at a terminal type the name of what is to be destroyed.
func askForName(cmd *cobra.Command, what, name string) error {
	if in, ok := cmd.InOrStdin().(*os.File); !ok || !term.IsTerminal(int(in.Fd())) {
		return fmt.Errorf("%s is deleted with all that is in it: say --yes, since nobody is here to be asked", what)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s is deleted with all that is in it. Type its name to go on: ", what)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != name {
		return fmt.Errorf("that is not its name: nothing was deleted")
	}
	return nil
}

func driveSnapshotCommand(k storageKind) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "snapshot " + k.argument() + " NAME",
		Short:             "Keep what a " + k.words + " has now under a name, also while it is attached",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeDrive(k),
	}
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		d, err := c.findDrive(cmd.Context(), k, args[0])
		if err != nil {
			return err
		}
		r := request{method: http.MethodPost, path: k.of(d.V.ID) + "/snapshots", in: map[string]string{"name": args[1]}, key: newIdempotencyKey()}
		return c.driveCall(cmd, p, k, r, func(d drive) string { return fmt.Sprintf("%s has the snapshot %s", k.title(d), args[1]) })
	})
	return cmd
}

func driveDeleteSnapshotCommand(k storageKind) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "delete-snapshot " + k.argument() + " NAME",
		Short:             "Delete a snapshot of a " + k.words,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeDrive(k),
	}
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		d, err := c.findDrive(cmd.Context(), k, args[0])
		if err != nil {
			return err
		}
		r := request{method: http.MethodDelete, path: k.of(d.V.ID) + "/snapshots/" + url.PathEscape(args[1]), repeatable: true}
		return c.driveCall(cmd, p, k, r, func(d drive) string {
			return fmt.Sprintf("the snapshot %s of %s is being deleted", args[1], k.title(d))
		})
	})
	return cmd
}

func driveRestoreCommand(k storageKind) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "restore " + k.argument() + " SNAPSHOT",
		Short:             "Put a " + k.words + " back to a snapshot; what was written since is lost",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeDrive(k),
	}
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		d, err := c.findDrive(cmd.Context(), k, args[0])
		if err != nil {
			return err
		}
		r := request{method: http.MethodPost, path: k.of(d.V.ID) + "/snapshots/" + url.PathEscape(args[1]) + "/restore", key: newIdempotencyKey()}
		return c.driveCall(cmd, p, k, r, func(d drive) string { return fmt.Sprintf("%s has again what the snapshot %s has", k.title(d), args[1]) })
	})
	return cmd
}
