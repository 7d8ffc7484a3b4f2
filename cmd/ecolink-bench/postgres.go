package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	postgresName = "PostgreSQL"
	postgresUser = "postgres" // the system's and the database's
)

// How long the server may take.
const (
	postgresStart = 60 * time.Second
	postgresStop  = 60 * time.Second
)

// postgresSchema makes the tables and the function that charges.
//
//go:embed postgres.sql
var postgresSchema string

// postgres is a server of our own, reached through a socket in a folder that
// only its user sees.
type postgres struct {
	programs string // the folder of initdb, postgres, psql and pgbench
	dir      string // its data, and pgbench's scripts and logs
	sockets  string // of a short name: a socket's path has 107 bytes at most
	as       *syscall.Credential
	server   *exec.Cmd
	ended    chan struct{} // closed when the server has
}

func newPostgres(ctx context.Context, dir string, clean *cleanup) (*postgres, error) {
	programs, err := postgresPrograms()
	if err != nil {
		return nil, errPeer(postgresName, "postgresql", err)
	}
	p := &postgres{programs: programs, dir: dir}
	if err := p.become(); err != nil {
		return nil, errPeer(postgresName, "postgresql", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if p.sockets, err = os.MkdirTemp("", "ecobench"); err != nil {
		return nil, err
	}
	clean.add(func() error { return os.RemoveAll(p.sockets) })
	for _, folder := range []string{p.dir, p.sockets} {
		if err := p.give(folder); err != nil {
			return nil, err
		}
	}
	if err := p.serve(ctx, clean); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return p, p.prepare(ctx)
}

// postgresPrograms is the folder of the newest server: Debian keeps each version
// in its own, out of the PATH.
func postgresPrograms() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	newest, at := 0, ""
	for _, folder := range found {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
		_, missing := os.Stat(filepath.Join(folder, "initdb"))
		if err == nil && missing == nil && version > newest {
			newest, at = version, folder
		}
	}
	if at == "" {
		initdb, err := exec.LookPath("initdb")
		if err != nil {
			return "", err
		}
		at = filepath.Dir(initdb)
	}
	for _, name := range []string{"postgres", "psql", "pg_isready", "pgbench"} {
		if _, err := os.Stat(filepath.Join(at, name)); err != nil {
			return "", err
		}
	}
	return at, nil
}

// become finds the user to run as: PostgreSQL refuses to be root.
func (p *postgres) become() error {
	if os.Geteuid() != 0 {
		return nil
	}
	who, err := user.Lookup(postgresUser)
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	if err != nil {
		return err
	}
	p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

func (p *postgres) give(path string) error {
	if p.as == nil {
		return nil
	}
	return os.Chown(path, int(p.as.Uid), int(p.as.Gid))
}

// program is one of PostgreSQL's, as its user, in a process group of its own: an
// interrupt from the keyboard is for us, and we end what we started in order.
func (p *postgres) program(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.programs, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "LC_ALL=C",
		"PGHOST=" + p.sockets, "PGUSER=" + postgresUser, "PGDATABASE=postgres",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.as, Pdeathsig: syscall.SIGINT}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

func (p *postgres) run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := p.program(ctx, name, args...).CombinedOutput()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// serve makes a cluster and starts its server. Durability is the default's,
// spelt out. Checkpoints are kept rare, which is in its favour: none falls into
// a measurement, nor do the full pages that follow one. What was free of the log
// stays for use again, as the schema's last lines want it.
func (p *postgres) serve(ctx context.Context, clean *cleanup) error {
	data := filepath.Join(p.dir, "data")
	if _, err := p.run(ctx, "initdb", "-D", data, "-U", postgresUser, "--auth=trust", "--encoding=UTF8", "--no-locale"); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(p.dir, "server.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", data}
	for _, setting := range []string{
		"listen_addresses=", "unix_socket_directories=" + p.sockets,
		"fsync=on", "synchronous_commit=on", "full_page_writes=on",
		"shared_buffers=512MB", "min_wal_size=1GB", "max_wal_size=4GB", "checkpoint_timeout=1h",
	} {
		args = append(args, "-c", setting)
	}
	// Not of the context: it is ended in order, by stop.
	p.server = p.program(context.Background(), "postgres", args...)
	p.server.Stdout, p.server.Stderr = log, log
	if err := p.server.Start(); err != nil {
		return err
	}
	p.ended = make(chan struct{})
	go func() {
		p.server.Wait() // how it ended is in its log
		close(p.ended)
	}()
	clean.add(p.stop)
	if err := p.await(ctx); err != nil {
		tail, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w\n%s", err, tail)
	}
	return nil
}

// await returns when the server takes connections.
func (p *postgres) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, postgresStart)
	defer cancel()
	for {
		_, err := p.run(ctx, "pg_isready", "-q")
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return errors.New("the server ended")
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends the server: orderly, then at once, then by force.
func (p *postgres) stop() error {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		select {
		case <-p.ended:
			return nil
		default:
		}
		if err := p.server.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop PostgreSQL: %w", err)
		}
		select {
		case <-p.ended:
			return nil
		case <-time.After(postgresStop):
		}
	}
	return fmt.Errorf("PostgreSQL (process %d) does not end: end it by hand", p.server.Process.Pid)
}
