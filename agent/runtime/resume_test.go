package runtime

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ecolink/agent/runtime/daemon"
)

// A process that is killed neither ends its pull nor gives back its lease: closing
// its connection to containerd does the same.
func TestPullGoesOnFromTheBytesThatAreHereAfterEcoLinkAndContainerdWereKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		newRuntime(t) // says what is missing
	}
	dir, err := os.MkdirTemp("", "ecr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("left behind: %v", err)
		}
	})
	own := daemon.Config{Binary: "containerd", DataDir: filepath.Join(dir, "d"), RunDir: filepath.Join(dir, "r")}
	d, err := daemon.Start(background, own, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	f := newFaulty(t)
	image := f.push("demo/box:1")
	cfg := Config{Socket: own.Socket(), Namespace: "resume", DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run")}
	patientFor(&cfg)
	connect := func() *Runtime {
		t.Helper()
		var err error
		for range 100 {
			var r *Runtime
			if r, err = Connect(background, cfg, quiet(t)); err == nil {
				return r
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatal(err)
		return nil
	}
	r := connect()
	var slow atomic.Bool
	slow.Store(true)
	half := make(chan struct{})
	f.spoil(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if isLayer(req) && slow.Load() {
			w = slowly{w, 10 * time.Millisecond}
			if f.sent.Load() > layerBytes/2 {
				select {
				case <-half:
				default:
					close(half)
				}
			}
		}
		next.ServeHTTP(w, req)
	})
	given, giveUp := context.WithCancel(background)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Pull(given, Image{Name: image}, func(p Progress) {
			if p.Bytes > layerBytes/2 {
				select {
				case <-half:
				default:
					close(half)
				}
			}
		})
	}()
	<-half
	r.client.Close() // EcoLink is killed
	giveUp()
	<-ended
	r.stop()
	slow.Store(false)

	raw, err := os.ReadFile(filepath.Join(own.RunDir, "containerd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(raw))[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil { // its supervisor starts another
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	r = connect()
	defer r.Close()
	if err := r.Pull(background, Image{Name: image}, nothing); err != nil {
		t.Fatal(err)
	}
	if sent := f.sent.Load(); sent > layerBytes+layerBytes/3 {
		t.Errorf("%d bytes were sent for %d", sent, layerBytes)
	}
	for _, left := range r.leftovers(t) {
		if strings.HasPrefix(left, "lease") || strings.HasPrefix(left, "ingest") || strings.Contains(left, "extract") {
			t.Error("left:", left)
		}
	}
	for _, s := range must(r.Images(background, nil)) {
		if err := r.forget(r.in(background), s); err != nil {
			t.Error(err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestHalfAPullIsKeptForADayAndThenContainerdsOwnCollectorTakesIt(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := f.push("demo/box:1")
	f.spoil(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if isLayer(req) {
			w = slowly{w, 10 * time.Millisecond}
		}
		next.ServeHTTP(w, req)
	})
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	err := r.Pull(ctx, Image{Name: image}, func(p Progress) {
		if p.Bytes > 0 {
			cancel()
		}
	})
	if err == nil {
		t.Fatal("it was faster than expected")
	}
	leases, err := r.client.LeasesService().List(r.in(background))
	if err != nil || len(leases) != 1 {
		t.Fatalf("%v, %v", leases, err)
	}
	expire, err := time.Parse(time.RFC3339, leases[0].Labels["containerd.io/gc.expire"])
	if left := time.Until(expire); err != nil || left < 23*time.Hour || left > 25*time.Hour {
		t.Errorf("it is kept for %s, %v", left, err)
	}
	halfway := false
	for _, left := range r.leftovers(t) {
		halfway = halfway || strings.HasPrefix(left, "ingest ") && strings.Contains(left, "-layer-sha256:")
	}
	if !halfway {
		t.Errorf("nothing is kept: %v", r.leftovers(t))
	}
	// What the collector does once the lease has expired.
	_, done, err := r.hold(r.in(background), leases[0].Labels[pullLabel])
	if err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	r.wantNothingKept(t)
}
