package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ecolink/agent/keeper/latency"
	"ecolink/ledger/identity"
	"ecolink/ledger/registries"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
	"ecolink/nvml"
	"ecolink/scheduler"
	"ecolink/scheduler/books"
	"ecolink/web"
	"ecolink/web/admin"
	"ecolink/web/api"
	"ecolink/web/console"
	"ecolink/web/files"
	"ecolink/web/proxy"
	"ecolink/web/socket"
	"ecolink/web/ssh"
)

// Limits of the HTTP servers. Answers may stream for days, so there is no time-out
// for writing one: web.Identify has one for each piece, and one for a body.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 10 * time.Second
	maxHeaderBytes    = 64 << 10
)

// maxHashes is how many passwords are checked at once on the largest box: each
// takes 64 MiB and two cores, and anybody may try to sign in.
const maxHashes = 4

func serveCommand() *cobra.Command {
	var c serveConfig
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the box: API, console, scheduler and agent in one process",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd.Flags(), os.LookupEnv); err != nil {
				return err
			}
			log, err := newLogger(c.logFormat)
			if err != nil {
				return err
			}
			if err := c.check(); err != nil {
				return err
			}
			return serve(cmd.Context(), c, log)
		},
	}
	c.flags(cmd.Flags())
	return cmd
}

func newLogger(format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, nil)), nil
	default:
		return nil, misuse("--log-format %s: choose text or json", format)
	}
}

// collectLess has garbage collected less often: what lives is small beside what
// requests allocate. A heap that does become large is collected as usual.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(2 << 30)
	}
}

// serve runs the box until ctx ends. Containers go on after it.
func serve(ctx context.Context, c serveConfig, log *slog.Logger) (err error) {
	collectLess()
	latency.AskForShortSlices()
	if os.Geteuid() != 0 {
		return errors.New("containers, networks and GPUs need root: run `ecolink serve` with sudo")
	}
	if c.publicURL != "" {
		if c.publicURL, err = baseURL(c.publicURL); err != nil {
			return fmt.Errorf("--public-url: %w", err)
		}
	}
	for _, dir := range []*string{&c.dataDir, &c.runDir} { // other programs are given them
		if *dir, err = filepath.Abs(*dir); err != nil {
			return err
		}
	}
	// First of all, so that an address that is taken disturbs nothing.
	listener, err := listen(ctx, c.listen, heldTimeout, log)
	if err != nil {
		return fmt.Errorf("%w: stop what listens there, or choose another --listen", err)
	}
	defer listener.Close()
	st, err := store.Open(filepath.Join(c.dataDir, "ecolink.db"))
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("EcoLink runs already with --data-dir %s: stop it, or choose another folder: %w", c.dataDir, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	// Before anybody is served, and before anything is written.
	if err := books.Check(ctx, st, log); err != nil {
		return err
	}
	parts, err := openParts(ctx, c, listener.Addr(), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.close()) }()

	logins, err := openRegistries(ctx, c.dataDir, st, log)
	if err != nil {
		return err
	}
	sched := scheduler.New(st, parts.box, placeable(parts.inventory), log, scheduler.WithResources(parts.perGPU), scheduler.WithPreemptAfter(c.preemptAfter), scheduler.WithRegistries(logins))
	volumes, err := files.New(sched, st, log)
	if err != nil {
		return err
	}
	hasher := identity.NewHasher(min(max(1, runtime.NumCPU()/2), maxHashes))
	public := publicURL(c, listener.Addr())
	services, err := openServices(c, public)
	if err != nil {
		return err
	}
	door, err := openSSH(ctx, c, public, log)
	if err != nil {
		return err
	}
	defer door.close()
	pages := handler(webParts{st, sched, hasher, parts.inventory, strings.HasPrefix(public, "https:"), c.publicURL != "", services, door.address, logins, volumes, web.BoxName(public)}, log)
	adminListener, err := listenAdmin(ctx, c.runDir)
	if err != nil {
		return err
	}
	if err := announce(ctx, st, public, log); err != nil {
		return err
	}
	operator := web.Identify(admin.Handler(st, hasher, version, log, admin.WithDoctor(newCheckup(c, st, parts.box)), admin.WithImages(parts.box, sched), admin.WithGPUs(gpuTypes(parts.inventory))), log, "")
	return runAll(ctx, log, st, sched, volumes, door, newServer(pages, log), listener, newServer(operator, log), adminListener)
}

// runAll runs the scheduler, the keeper of the books, the sums of usage and all
// servers until ctx ends or one of them fails, and then ends all of them.
func runAll(ctx context.Context, log *slog.Logger, st *store.Store, sched *scheduler.Scheduler, volumes *files.Server, door sshDoor, public *http.Server, publicListener net.Listener, local *http.Server, localListener net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	for _, s := range []*http.Server{public, local} {
		s.BaseContext = func(net.Listener) context.Context { return streams }
	}
	const all = 7
	done := make(chan error, all)
	start := func(what string, f func() error) {
		go func() {
			err := f()
			if err != nil && !errors.Is(err, http.ErrServerClosed) {
				err = fmt.Errorf("%s: %w", what, err)
				stop(err)
			} else {
				err = nil
			}
			done <- err
		}()
	}
	start("scheduler", func() error { return sched.Run(ctx) })
	start("books", func() error { return books.Keep(ctx, st, log) })
	start("usage", func() error { return usage.Run(ctx, st, log) })
	start("SSH", func() error { return door.serve(ctx, ssh.Deps{Store: st, Scheduler: sched, Log: log}) })
	start("uploads", func() error { return volumes.Run(ctx) })
	start("web", func() error { return public.Serve(publicListener) })
	start("admin socket", func() error { return local.Serve(localListener) })
	log.Info("ready", "listen", publicListener.Addr().String())
	<-ctx.Done()
	log.Info("stopping; containers go on")
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	endStreams() // watchers and terminals come back to the next process
	err := errors.Join(public.Shutdown(limit), local.Shutdown(limit))
	for range all {
		err = errors.Join(err, <-done)
	}
	return err
}

func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

type webParts struct {
	store         *store.Store
	scheduler     *scheduler.Scheduler
	hasher        *identity.Hasher
	inventory     nvml.Inventory
	secureCookies bool
	behindProxy   bool
	services      services
	ssh           web.SSHAddress
	logins        *registries.Book
	volumes       *files.Server
	box           string
}

// handler is all that the box serves over the network.
func handler(p webParts, log *slog.Logger) http.Handler {
	terminal := socket.Terminal(p.scheduler, log)
	mux := http.NewServeMux()
	keys := web.Keys{Store: p.store, Log: log}
	v1 := api.New(api.Deps{
		Store: p.store, Scheduler: p.scheduler, Keys: keys, Inventory: p.inventory, Addresses: p.services.origins, SSH: p.ssh, Box: p.box, Registries: p.logins, Files: p.volumes,
		Log: log, Version: version, Terminal: terminal, Exec: socket.Exec(p.scheduler, log),
	})
	for _, pattern := range []string{"/v1/", "/healthz", "/docs"} {
		mux.Handle(pattern, v1)
	}
	mux.Handle("/", console.New(console.Deps{
		Store: p.store, Scheduler: p.scheduler, Hasher: p.hasher, Inventory: p.inventory,
		Log: log, Terminal: terminal, SecureCookies: p.secureCookies, Addresses: p.services.origins, SSH: p.ssh, Box: p.box, Registries: p.logins, Files: p.volumes,
	}))
	simulated := ""
	if p.inventory.Simulated {
		simulated = p.inventory.SimulatedAs
	}
	all := web.Identify(proxy.Handler(proxy.Deps{
		Store: p.store, Instances: p.scheduler, Keys: keys, Origins: p.services.origins, PassKey: p.services.passKey,
		SecureConsole: p.secureCookies, Log: log,
	}, mux), log, simulated)
	if p.behindProxy {
		all = web.BehindProxy(all)
	}
	return all
}

// listenAdmin opens the socket of the operator's commands, for root alone.
func listenAdmin(ctx context.Context, runDir string) (net.Listener, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	path := adminSocket(runDir)
	// The folder's lock says that no other EcoLink is using it.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// The mode is set before the socket has a name: Linux gives the file the mode of
	// the socket, less the umask (unix_bind), and never is there one that others
	// may connect to.
	closed := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var refused error
		err := c.Control(func(fd uintptr) { refused = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, refused)
	}}
	l, err := closed.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return l, nil
}

// announce prints the one-time link by which the first operator comes in.
func announce(ctx context.Context, st *store.Store, public string, log *slog.Logger) error {
	var token string
	err := st.Update(ctx, func(tx *store.Tx) error {
		token = ""
		done, err := identity.IsSetUp(tx)
		if err != nil || done {
			return err
		}
		token, err = identity.CreateSetupToken(tx, time.Now())
		return err
	})
	if err != nil {
		return err
	}
	if token == "" {
		log.Info("console", "url", public)
		return nil
	}
	fmt.Fprintf(os.Stderr, "\n  Set up this box: %s/setup?token=%s\n  The link works once, for a week; a restart prints a new one.\n\n", public, url.QueryEscape(token))
	return nil
}

// publicURL is where people find the console.
func publicURL(c serveConfig, addr net.Addr) string {
	if c.publicURL != "" {
		return c.publicURL
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "http://" + addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			host = "localhost"
		}
	}
	return "http://" + net.JoinHostPort(host, port)
}
