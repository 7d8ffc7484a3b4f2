package main

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
	"ecolink/nvml"
	"ecolink/scheduler"
	"ecolink/scheduler/placement"
	"ecolink/scheduler/schedulertest"
	"ecolink/web"
	"ecolink/web/api"
	"ecolink/web/files"
	"ecolink/web/proxy"
	"ecolink/web/socket"
)

// raceOptions keep the race detector from sleeping for a second at the end of
// each of the many programs that the tests run.
const raceOptions = "GORACE=atexit_sleep_ms=0"

// The test binary is the program too, for scripts and for terminals.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ecolink": main})
}

// box is an EcoLink whose parts are all real but the machine, which has no
// containers.
type box struct {
	url, key string
	machine  *machine
	store    *store.Store
}

// newBox starts a box with four H100s at $1.60, a GB-month at $0.10, and an account with $100.
func newBox(t testing.TB) *box {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	must(t, err)
	lib, err := nvml.Open("simulated:h100x4")
	must(t, err)
	inv, err := lib.Inventory()
	must(t, err)
	b := &box{machine: newMachine(), store: st}
	must(t, st.Update(context.Background(), func(tx *store.Tx) error {
		made, err := identity.Bootstrap(tx, identity.FirstOperator{
			AccountName: "Ana", User: identity.NewUser{Email: "ana@example.org"}, KeyName: "first",
		}, time.Now())
		if err != nil {
			return err
		}
		b.key = made.Secret
		if _, err := price.Set(tx, price.GPU("h100"), 1_600_000, time.Time{}, time.Now(), ""); err != nil {
			return err
		}
		for _, item := range []price.Item{price.Drive, price.SharedFilesystem} {
			if _, err := price.Set(tx, item, 100_000, time.Time{}, time.Now(), ""); err != nil {
				return err
			}
		}
		_, err = ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: made.Account.ID, Amount: 100 * ledger.Dollar, Description: "invoice 7"})
		return err
	}))
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	var gpus []placement.GPU
	for _, g := range inv.GPUs {
		gpus = append(gpus, placement.GPU{UUID: g.UUID, Index: g.Index, Type: g.Type})
	}
	logins, err := openRegistries(t.Context(), t.TempDir(), st, log)
	must(t, err)
	sched := scheduler.New(st, b.machine, gpus, log, scheduler.WithRegistries(logins))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sched.Run(ctx) }()
	b.machine.KeepFiles(t.TempDir())
	b.machine.KeepImages(
		agent.StoredImage{Names: []string{"registry.example.org/team/trainer:3"}, Digest: "sha256:3333", Bytes: 5e6, Imported: true, ImportedNames: []string{"registry.example.org/team/trainer:3"}},
		agent.StoredImage{Names: []string{"registry.example.org/secret/pulled:1"}, Digest: "sha256:1111", Bytes: 5e6},
	)
	volumes, err := files.New(sched, st, log)
	must(t, err)
	origins, err := proxy.ParseOrigins("http://127.0.0.1:7070", "")
	must(t, err)
	server := httptest.NewUnstartedServer(web.Identify(api.New(api.Deps{
		Store: st, Scheduler: sched, Keys: web.Keys{Store: st, Log: log}, Inventory: inv, Log: log, Version: "test",
		Terminal: socket.Terminal(sched, log), Exec: socket.Exec(sched, log), Registries: logins, Files: volumes, Addresses: origins, Box: "127.0.0.1:7070",
	}), log, inv.SimulatedAs))
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Start()
	b.url = server.URL
	t.Cleanup(func() {
		stop() // ends streams and terminals, for which the server waits
		server.CloseClientConnections()
		server.Close()
		must(t, <-done)
		b.machine.close()
		must(t, st.Close())
		must(t, lib.Close())
	})
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *box) client() *client {
	return &client{base: b.url, key: b.key, http: &http.Client{}}
}

// launch launches an instance and waits until it runs.
func (b *box) launch(t testing.TB, name string) instance {
	t.Helper()
	c := b.client()
	i, err := c.launch(t.Context(), launchBody{Name: name, GPUType: "h100", GPUCount: 1, Image: "ubuntu:24.04", Hours: 1})
	must(t, err)
	i, err = c.waitUntilRunning(t.Context(), i, newScreen(io.Discard))
	must(t, err)
	return i.V
}

// machine stands in for the box's containers: a workload is its name in a map,
// its log a slice, its commands and shells processes of the host.
type machine struct {
	*schedulertest.Workloads

	mu     sync.Mutex
	logs   map[string][]agent.LogLine
	shells map[string]*shell
	news   chan struct{} // closed and replaced when there is more log
	pulls  chan struct{} // what a pull of slow/… waits for
}

func newMachine() *machine {
	return &machine{
		Workloads: schedulertest.New(), logs: map[string][]agent.LogLine{}, shells: map[string]*shell{},
		news: make(chan struct{}), pulls: make(chan struct{}),
	}
}

func (m *machine) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.shells {
		s.kill()
	}
}

// ResolveImage knows every image but missing/….
func (m *machine) ResolveImage(_ context.Context, i agent.Image) (string, error) {
	if strings.HasPrefix(i.Name, "missing/") {
		return "", schedulertest.Refusal("the registry does not have it: check the name")
	}
	return schedulertest.Digest(i.Name), nil
}

// PullImage fails for broken/… and takes two steps for slow/….
func (m *machine) PullImage(ctx context.Context, i agent.Image, progress func(agent.PullProgress)) error {
	if strings.HasPrefix(i.Name, "broken/") {
		return schedulertest.Refusal("a layer's checksum is wrong")
	}
	if strings.HasPrefix(i.Name, "slow/") {
		progress(agent.PullProgress{Layers: 3, LayersDone: 1, Bytes: 40e6, TotalBytes: 100e6})
		select {
		case <-m.pulls:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Run ends at once for a command "true", as a container does. A command /missing
// does not start, and the container goes on.
func (m *machine) Run(ctx context.Context, w agent.Workload) (agent.Observation, error) {
	if len(w.Command) > 0 && w.Command[0] == "true" {
		time.AfterFunc(50*time.Millisecond, func() { m.Exit(w.ID) })
	}
	o, err := m.Workloads.Run(ctx, w)
	if err == nil && len(w.Command) > 0 && w.Command[0] == "/missing" {
		m.EndCommand(w.ID, agent.CommandEnd{At: time.Now(), Error: "/missing: no such file or directory"})
	}
	return o, err
}

// Exec runs the command on the host.
func (m *machine) Exec(ctx context.Context, _ string, argv []string, std agent.Stdio) (int, error) {
	return runOnHost(ctx, argv, std)
}

func (m *machine) Terminal(_ context.Context, id, session string, from int64, cols, rows uint16) (agent.Terminal, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := id + "/" + session
	s := m.shells[name]
	if s == nil || s.hasEnded() {
		var err error
		if s, err = startShell(cols, rows); err != nil {
			return nil, err
		}
		m.shells[name] = s
	}
	return s.attach(from), nil
}

// Sessions are the shells that go on.
func (m *machine) Sessions(_ context.Context, id string) (all []agent.TerminalSession, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(m.shells)) {
		if session, ok := strings.CutPrefix(name, id+"/"); ok && !m.shells[name].hasEnded() {
			all = append(all, agent.TerminalSession{Name: session, Foreground: "sh", UsedAt: time.Now()})
		}
	}
	return all, nil
}

// EndSession kills a shell.
func (m *machine) EndSession(_ context.Context, id, session string) (found bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shells[id+"/"+session]
	if s == nil || s.hasEnded() {
		return false, nil
	}
	s.kill()
	delete(m.shells, id+"/"+session)
	return true, nil
}

// prints adds to a workload's output.
func (m *machine) prints(id string, lines ...agent.LogLine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logs[id] = append(m.logs[id], lines...)
	close(m.news)
	m.news = make(chan struct{})
}

func (m *machine) Logs(ctx context.Context, id string, tail int, follow bool) iter.Seq2[agent.LogLine, error] {
	return func(yield func(agent.LogLine, error) bool) {
		for at := -1; ; {
			m.mu.Lock()
			lines, news := m.logs[id], m.news
			m.mu.Unlock()
			if at < 0 {
				at = 0
				if tail > 0 {
					at = max(0, len(lines)-tail)
				}
			}
			for ; at < len(lines); at++ {
				if !yield(lines[at], nil) {
					return
				}
			}
			if !follow {
				return
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
		}
	}
}

// TestScripts runs the manual: testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			b := newBox(e.T().(testing.TB))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("ECOLINK_URL", b.url)
			e.Setenv("ECOLINK_API_KEY", b.key)
			e.Setenv("TZ", "UTC")
			e.Vars = append(e.Vars, raceOptions)
			e.Values["box"] = b
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"prints": scriptPrints, "pulled": scriptPulled, "exits": scriptExits, "shell": scriptShell, "claims": scriptClaims,
		},
	})
}

func boxOf(ts *testscript.TestScript) *box { return ts.Value("box").(*box) }

// prints ID STREAM TEXT: the instance prints a line; without its newline when the
// text ends in \c, as in echo.
func scriptPrints(ts *testscript.TestScript, _ bool, args []string) {
	text, partial := strings.CutSuffix(args[2], `\c`)
	boxOf(ts).machine.prints("instance-"+args[0], agent.LogLine{Time: time.Now(), Stream: args[1], Text: text, Partial: partial})
}

// pulled: an image slow/… is here.
func scriptPulled(ts *testscript.TestScript, _ bool, _ []string) {
	select {
	case boxOf(ts).machine.pulls <- struct{}{}:
	case <-time.After(10 * time.Second):
		ts.Fatalf("nothing is being pulled")
	}
}

// shell ID NAME: somebody opens a shell of the name, and leaves it.
func scriptShell(ts *testscript.TestScript, _ bool, args []string) {
	t, err := boxOf(ts).machine.Terminal(context.Background(), "instance-"+args[0], args[1], -1, 80, 24)
	ts.Check(err)
	ts.Check(t.Close())
}

// exits ID: the instance's container ends by itself.
func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	boxOf(ts).machine.Exit("instance-" + args[0])
}
