package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/web/admin"
)

// The box does what it is asked, and its answers are lost.
func TestPaymentWhoseAnswerIsLostSaysHowToRunItAgainAndIsDoneOnce(t *testing.T) {
	b := newBox(t)
	before := b.wallet(t).Available
	handler := admin.Handler(b.store, identity.NewHasher(1), "test", slog.New(slog.DiscardHandler))
	var deaf atomic.Bool
	deaf.Store(true)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if deaf.Load() {
			handler.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
	}))
	runDir, err := os.MkdirTemp("", "ecolink") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(runDir) })
	server.Listener.Close()
	server.Listener, err = net.Listen("unix", filepath.Join(runDir, "admin.sock"))
	must(t, err)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(server.Close)
	dataDir := t.TempDir()
	box := boxFlags{dataDir: &dataDir, runDir: &runDir}
	for path, in := range map[string]map[string]string{
		"/admin/topup":   {"account": "1", "amount": "25"},
		"/admin/correct": {"account": "1", "amount": "-5", "reason": "credited twice"},
	} {
		deaf.Store(true)
		err := box.moveMoney(t.Context(), path, "", in, nil)
		if err == nil {
			t.Fatal("an answer came")
		}
		key := regexp.MustCompile(`; run it again with --key ([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}): it is done once$`).FindStringSubmatch(err.Error())
		if key == nil {
			t.Fatalf("got %v", err)
		}
		deaf.Store(false)
		must(t, box.moveMoney(t.Context(), path, key[1], in, nil))
	}
	if got := b.wallet(t).Available - before; got != 20*ledger.Dollar {
		t.Errorf("$%s came in", got)
	}
	err = box.moveMoney(t.Context(), "/admin/topup", "", map[string]string{"account": "99", "amount": "5"}, nil)
	if err == nil || strings.Contains(err.Error(), "--key") {
		t.Errorf("refused: %v", err)
	}
}
