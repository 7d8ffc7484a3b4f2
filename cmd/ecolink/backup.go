package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ecolink/ledger/backup"
)

func backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE|-",
		Short: "Write all records of the box into one file, while it runs",
		Long: `Write all records of the box into one file: accounts, keys, the ledger with its
archives, and what is to run. EcoLink may run meanwhile; what is written after the
backup has begun is not in it. Users' volumes are not in it either.

The file is a tar archive compressed with zstd. It has everything that is secret in
the box: keep it as such. Only the accounts' passwords for registries are sealed in
it, with the key in the data folder's secrets.key: keep a copy of that elsewhere, or
have the accounts enter those passwords again after a restore. It appears under its
name when it is whole and its books have been verified, as a restore would. A file
that has the name already is an error, and stays as it is; with --force it is
replaced, once the new backup is whole. With - it goes to standard output unverified (see ` + "`backup verify`" + `).`,
		Example: `  ecolink backup /mnt/backups/ecolink-$(date +%F).tar.zst
  ecolink backup - | ssh vault 'cat > ecolink.tar.zst'`,
		Args: cobra.ExactArgs(1),
	}
	var unchecked, replace bool
	box := findBox(cmd)
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		check := func(path string) error {
			if unchecked {
				return nil
			}
			return verifyBackup(cmd.Context(), path)
		}
		out := savedBackup{File: args[0]}
		begun := time.Now()
		write := func(w io.Writer) (err error) {
			out.Manifest, err = box.backup(cmd.Context(), w)
			return err
		}
		if out.File == "-" {
			p.out = cmd.ErrOrStderr()
			if f, ok := cmd.OutOrStdout().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				return errors.New("a backup is not for a terminal: name a file, or send it somewhere")
			}
			out.Bytes, err = counting(cmd.OutOrStdout(), write)
		} else {
			out.Bytes, err = writeAside(out.File, replace, write, check)
		}
		if err != nil {
			return err
		}
		out.Seconds = time.Since(begun).Seconds()
		return p.show(out, func(w io.Writer) {
			fmt.Fprintf(w, "wrote %s: %s, %s, as of %s, in %s\n",
				printable(out.File), byteSize(out.Bytes), count(out.Row, "ledger row"), moment(&out.TakenAt), time.Since(begun).Round(time.Millisecond))
		})
	}
	cmd.Flags().BoolVar(&unchecked, "no-verify", false, "do not check the backup's books before it gets its name")
	cmd.Flags().BoolVarP(&replace, "force", "f", false, "replace a file that is there")
	cmd.AddCommand(backupVerifyCommand())
	return cmd
}

// verifyBackup makes sure that a backup could be restored, beside the file: it
// takes as much room again for a while.
func verifyBackup(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := backup.VerifyFile(ctx, f, filepath.Dir(path)); err != nil {
		return fmt.Errorf("the box's data can't be backed up as it is: %w; what has that name was left as it was", err)
	}
	return nil
}

// savedBackup is a backup as it was written.
type savedBackup struct {
	File    string  `json:"file"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	backup.Manifest
}

// backup writes a backup to w: through the box's socket when it runs, or else from
// its database.
func (b boxFlags) backup(ctx context.Context, w io.Writer) (m backup.Manifest, err error) {
	if !b.runs(ctx) {
		st, err := b.open(false)
		if err != nil {
			return m, err
		}
		m, err = backup.Write(ctx, st, w, version, time.Now())
		return m, errors.Join(err, st.Close())
	}
	resp, err := onSocket(adminSocket(*b.runDir)).send(ctx, request{method: http.MethodGet, path: "/admin/backup"})
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	passed := &pass{from: resp.Body, to: w}
	m, err = backup.Check(ctx, passed) // to its end: what has none is no backup
	if passed.failed != nil {
		return m, passed.failed
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("the backup broke off; EcoLink's log says why: %w", err)
	}
	return m, err
}

// pass is a reader that writes what it reads.
type pass struct {
	from   io.Reader
	to     io.Writer
	failed error // of writing
}

// Read implements io.Reader.
func (p *pass) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	if n > 0 {
		if _, p.failed = p.to.Write(b[:n]); p.failed != nil {
			return 0, p.failed
		}
	}
	return n, err
}

// counting gives how many bytes were written.
func counting(w io.Writer, write func(io.Writer) error) (int64, error) {
	n := int64(0)
	err := write(writerFunc(func(p []byte) (int, error) {
		done, err := w.Write(p)
		n += int64(done)
		return done, err
	}))
	return n, err
}

type writerFunc func([]byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
