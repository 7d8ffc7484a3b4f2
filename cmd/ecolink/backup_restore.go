package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ecolink/ledger/backup"
)

func backupVerifyCommand() *cobra.Command {
	var tempDir string
	cmd := &cobra.Command{
		Use:   "verify FILE|-",
		Short: "Check that a backup is whole and that its books agree",
		Long: `Check that a backup is whole and that its books agree, as a restore would, without
putting it anywhere. It is unpacked in a temporary folder, which needs the room.`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&tempDir, "temp-dir", os.TempDir(), "where to unpack it")
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		in, err := openBackup(cmd, args[0])
		if err != nil {
			return err
		}
		defer in.Close()
		found, err := backup.VerifyFile(cmd.Context(), in, tempDir)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		return p.show(found, func(w io.Writer) {
			fmt.Fprintf(w, "%s is whole and its books agree: %s\n", printable(args[0]), describe(found))
		})
	}
	return cmd
}

func restoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore FILE|-",
		Short: "Make this box's records what they are in a backup; EcoLink must be stopped",
		Long: `Make this box's records what they are in a backup. EcoLink must be stopped, and the
data folder must have no database: move one that is there away by hand, with the
folder ledger-archive. The backup is verified before it is put in its place.`,
		Example: `  systemctl stop ecolink
  mv /var/lib/ecolink/ecolink.db /var/lib/ecolink/ledger-archive /root/before/
  ecolink restore /mnt/backups/ecolink-2026-11-24.tar.zst
  systemctl start ecolink`,
		Args: cobra.ExactArgs(1),
	}
	box := findBox(cmd)
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		if box.runs(cmd.Context()) {
			return fmt.Errorf("EcoLink runs and answers at %s: stop it first", adminSocket(*box.runDir))
		}
		in, err := openBackup(cmd, args[0])
		if err != nil {
			return err
		}
		defer in.Close()
		found, err := backup.Restore(cmd.Context(), in, *box.dataDir)
		if err != nil {
			return err
		}
		return p.show(found, func(w io.Writer) {
			fmt.Fprintf(w, "restored %s: %s\n", printable(*box.dataDir), describe(found))
		})
	}
	return cmd
}

// describe says what a backup has.
func describe(r backup.Result) string {
	m := r.Manifest
	return printable(fmt.Sprintf("%s, %s with money, as of %s, by EcoLink %s",
		count(m.Row, "ledger row"), count(r.Books.Accounts, "account"), moment(&m.TakenAt), m.EcoLink))
}

func openBackup(cmd *cobra.Command, path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, cannotRead(path, err)
	}
	return f, nil
}
