package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// forgetful passes requests on to the box, and loses the first answers to POSTs.
func forgetful(t *testing.T, b *box, answers int64) (*client, *atomic.Int64) {
	t.Helper()
	u, err := url.Parse(b.url)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(u)
	var posts atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && posts.Add(1) <= answers {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c := b.client()
	c.base = server.URL
	return c, &posts
}

func (b *box) wallet(t testing.TB) (w ledger.Wallet) {
	t.Helper()
	must(t, b.store.View(func(tx *store.Tx) (err error) { w, err = ledger.WalletOf(tx, 1); return err }))
	return w
}

func TestLaunchAndExtendWhoseAnswersAreLostHappenOnce(t *testing.T) {
	b := newBox(t)
	c, posts := forgetful(t, b, 1)
	i, err := c.launch(t.Context(), launchBody{Name: "demo", GPUType: "h100", GPUCount: 1, Image: "ubuntu:24.04", Hours: 1})
	must(t, err)
	if held := b.wallet(t).Held; i.V.ID != 1 || held != 1_600_000 || posts.Load() != 2 {
		t.Errorf("instance %d, $%s held, %d posts", i.V.ID, held, posts.Load())
	}
	c, posts = forgetful(t, b, 1)
	extend := request{method: "POST", path: i.V.path() + "/extend", in: map[string]float64{"hours": 1}, key: newIdempotencyKey()}
	must(t, c.call(t.Context(), extend, nil))
	if held := b.wallet(t).Held; held != 3_200_000 || posts.Load() != 2 {
		t.Errorf("$%s held, %d posts", held, posts.Load())
	}
}

func TestWhatCannotBeRepeatedIsNot(t *testing.T) {
	b := newBox(t)
	c, posts := forgetful(t, b, 1)
	err := c.do(t.Context(), http.MethodPost, "/v1/api-keys", map[string]string{"name": "x"}, nil)
	if !errors.As(err, new(*lostError)) || posts.Load() != 1 {
		t.Errorf("got %v after %d posts", err, posts.Load())
	}
}

func TestLaunchWhoseAnswersAreAllLostSaysThatItMayHaveHappened(t *testing.T) {
	b := newBox(t)
	c, posts := forgetful(t, b, 10)
	_, err := c.launch(t.Context(), launchBody{Name: "demo", GPUType: "h100", GPUCount: 1, Image: "ubuntu:24.04", Hours: 1})
	if err == nil || !strings.Contains(err.Error(), "whether demo was launched is not known") || posts.Load() != 2 {
		t.Errorf("got %v after %d posts", err, posts.Load())
	}
}

func TestListGoesThroughAllPages(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		switch r.URL.Query().Get("cursor") {
		case "":
			fmt.Fprint(w, `{"data":[{"id":5,"name":"e","state":"terminated"},{"id":4,"name":"d","state":"running"}],"next_cursor":"4"}`)
		case "4":
			fmt.Fprint(w, `{"data":[{"id":3,"name":"c","state":"running"},{"id":2,"name":"e","state":"running"}],"next_cursor":null}`)
		}
	}))
	defer server.Close()
	c := &client{base: server.URL, http: http.DefaultClient}
	ids := func(limit int) (out []int64) {
		for i, err := range list[instance](t.Context(), c, instancesPath, limit) {
			must(t, err)
			out = append(out, i.V.ID)
		}
		return out
	}
	if got := ids(0); !slices.Equal(got, []int64{5, 4, 3, 2}) {
		t.Errorf("all: %v", got)
	}
	if got := ids(3); !slices.Equal(got, []int64{5, 4, 3}) {
		t.Errorf("three: %v", got)
	}
	if want := []string{"limit=200", "cursor=4&limit=200", "limit=3", "cursor=4&limit=1"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
	// The live one of the name counts, on whatever page it is.
	if i, err := c.find(t.Context(), "e"); err != nil || i.V.ID != 2 {
		t.Errorf("found %d, %v", i.V.ID, err)
	}
}

func TestOutageWaitsLongerAndLongerAndThenGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o outage
		began, last := time.Now(), time.Duration(0)
		for tries := 0; ; tries++ {
			at := time.Now()
			err := o.wait(t.Context())
			if errors.Is(err, errGaveUp) {
				if total := time.Since(began); total < 50*time.Second || total > time.Minute || tries < 10 {
					t.Errorf("gave up after %d tries in %s", tries, total)
				}
				break
			}
			if d := time.Since(at); err != nil || d < last || d > longestDelay {
				t.Fatalf("try %d after %s, %v", tries, d, err)
			} else {
				last = d
			}
		}
		o.over()
		if err := o.wait(t.Context()); err != nil {
			t.Errorf("the next outage: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := o.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// TestEventCutShortIsNoEvent loses the connection behind each byte of a stream.
func TestEventCutShortIsNoEvent(t *testing.T) {
	stream := ": hello\n\nevent: log\ndata: {\"text\":\"one\"}\n\nevent: log\ndata: {\"text\":\"two\"}\n\n"
	one, two := strings.Index(stream, "one\"}\n\n")+len("one\"}\n\n"), len(stream)
	var length int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(stream[:length]))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	c := &client{base: server.URL, http: server.Client()}
	for length = range len(stream) + 1 {
		var got []string
		var broke error
		for data, err := range c.events(t.Context(), "/") {
			if broke = err; err == nil {
				got = append(got, string(data))
			}
		}
		want := []string{`{"text":"one"}`, `{"text":"two"}`}
		switch {
		case length < one:
			want = nil
		case length < two:
			want = want[:1]
		}
		if !slices.Equal(got, want) || !transient(broke) {
			t.Errorf("after %d bytes: %q and then %v", length, got, broke)
		}
	}
}
