package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/backup"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
	"ecolink/web/admin"
)

// serveAdmin answers at a box's administration socket.
func serveAdmin(t testing.TB, h http.Handler) (runDir string) {
	t.Helper()
	runDir = t.TempDir()
	l, err := listenAdmin(t.Context(), runDir)
	must(t, err)
	log := slog.New(slog.DiscardHandler)
	server := newServer(web.Identify(h, log, ""), log)
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(l) })
	t.Cleanup(func() { server.Close(); wg.Wait() })
	return runDir
}

func TestBackupOfARunningBoxComesThroughItsSocket(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	must(t, err)
	defer st.Close()
	charge := func(amount ledger.MicroUSD) {
		must(t, st.Update(context.Background(), func(tx *store.Tx) error {
			_, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: 1, Amount: amount})
			return err
		}))
	}
	must(t, st.Update(context.Background(), func(tx *store.Tx) error {
		_, err := identity.CreateAccount(tx, "ana", time.Now())
		return err
	}))
	runDir := serveAdmin(t, admin.Handler(st, identity.NewHasher(1), version, slog.New(slog.DiscardHandler)))
	for range 100 {
		charge(1)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				charge(1)
			}
		}
	})
	file := filepath.Join(t.TempDir(), "box.tar.zst")
	cmd := backupCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{file, "--run-dir", runDir, "--data-dir", "/nonexistent"})
	err = cmd.ExecuteContext(t.Context())
	close(stop)
	wg.Wait()
	must(t, err)
	if !strings.Contains(out.String(), "wrote "+file) {
		t.Errorf("said %q", &out)
	}
	in, err := openBackup(cmd, file)
	must(t, err)
	defer in.Close()
	found, err := backup.VerifyFile(t.Context(), in, t.TempDir())
	if err != nil || found.Books.Rows < 100 || found.Manifest.EcoLink != version {
		t.Fatalf("%+v, %v", found, err)
	}

	restore := restoreCommand()
	restore.SilenceErrors, restore.SilenceUsage = true, true
	restore.SetArgs([]string{file, "--run-dir", runDir, "--data-dir", t.TempDir()})
	if err := restore.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "EcoLink runs") {
		t.Errorf("restore beside a running box: %v", err)
	}
}

// A connection that ends before the backup does leaves no file.
func TestBackupThatBreaksOffLeavesNoFile(t *testing.T) {
	runDir := serveAdmin(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	dir := t.TempDir()
	cmd := backupCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{filepath.Join(dir, "box.tar.zst"), "--run-dir", runDir})
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// One that was there keeps its name, also when it came while the other was written;
// with --force it does so until the other is whole.
func TestABackupIsNotReplacedByAnother(t *testing.T) {
	put := func(path, what string) { must(t, os.WriteFile(path, []byte(what), 0o600)) }
	says := func(what string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, what); return err }
	}
	fine := func(string) error { return nil }
	for name, c := range map[string]struct {
		before        string // what is there; "" for nothing
		replace       bool
		write         func(path string) func(io.Writer) error
		check         func(string) error
		want, problem string
	}{
		"nothing is there":         {"", false, func(string) func(io.Writer) error { return says("new") }, fine, "new", ""},
		"one is there":             {"old", false, func(string) func(io.Writer) error { return says("new") }, fine, "old", "is there already"},
		"one is to be replaced":    {"old", true, func(string) func(io.Writer) error { return says("new") }, fine, "new", ""},
		"the new one is not whole": {"old", true, func(string) func(io.Writer) error { return func(io.Writer) error { return io.ErrUnexpectedEOF } }, fine, "old", "EOF"},
		"the new one is wrong":     {"old", true, func(string) func(io.Writer) error { return says("new") }, func(string) error { return io.ErrShortWrite }, "old", "short write"},
		"one comes meanwhile": {"", false, func(path string) func(io.Writer) error {
			return func(w io.Writer) error { put(path, "other"); return says("new")(w) }
		}, fine, "other", "is there already"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "box.tar.zst")
			if c.before != "" {
				put(path, c.before)
			}
			_, err := writeAside(path, c.replace, c.write(path), c.check)
			if c.problem == "" {
				must(t, err)
			} else if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("got %v, want %q", err, c.problem)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != c.want {
				t.Errorf("there is %q, %v; want %q", got, err, c.want)
			}
			if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
				t.Errorf("in the folder are %v, %v", all, err)
			}
		})
	}
}
