package web

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// short is a patience that a test can wait for.
var short = patience{body: 200 * time.Millisecond, write: 500 * time.Millisecond}

// limit is how long a test waits for what must not take for ever.
const limit = 10 * time.Second

func serve(t *testing.T, h http.HandlerFunc) (dial func() net.Conn) {
	t.Helper()
	s := httptest.NewServer(identify(h, slog.New(slog.DiscardHandler), "", short))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		return c
	}
}

func TestBodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	ended := make(chan error, 1)
	dial := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		ended <- err
	})
	for _, framing := range []string{"Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		fmt.Fprint(dial(), "POST / HTTP/1.1\r\nHost: x\r\n"+framing)
		select {
		case err := <-ended:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the body ended with %v", err)
			}
		case <-time.After(limit):
			t.Fatal("the body is still waited for")
		}
	}
}

func TestBodyThatNobodyReadsHoldsNoConnection(t *testing.T) {
	dial := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "no thanks") })
	c := dial()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(answer), "no thanks") {
		t.Errorf("answered %q, %v", answer, err)
	}
}

// net/http cancels a request when a read deadline passes, however well the body
// arrived before it.
func TestRequestOutlivesTheTimeOfItsBody(t *testing.T) {
	dial := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		select {
		case <-r.Context().Done():
			fmt.Fprint(w, "cancelled")
		case <-time.After(2 * short.body):
			fmt.Fprint(w, "done")
		}
	})
	c := dial()
	for n := range 2 { // on one connection, whose deadlines of before are over
		fmt.Fprintf(c, "POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody", n)
		r := bufio.NewReader(c)
		for _, want := range []int{100, 200} {
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != want {
				t.Fatalf("answer %d: %v, %v", n, resp, err)
			}
			if want == 200 {
				if raw, err := io.ReadAll(resp.Body); string(raw) != "done" {
					t.Fatalf("answer %d: %q, %v", n, raw, err)
				}
			}
		}
		time.Sleep(2 * short.write)
	}
}

func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	ended := make(chan error, 1)
	dial := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		piece := make([]byte, 64<<10)
		for {
			if _, err := w.Write(piece); err != nil {
				ended <- err
				return
			}
		}
	})
	fmt.Fprint(dial(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("writing ended with %v", err)
		}
	case <-time.After(limit):
		t.Fatal("the client is still written to")
	}
}

// Only a piece that is not taken counts, not how long the whole answer takes.
func TestSlowAnswerIsNotCutOff(t *testing.T) {
	dial := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for n := range 5 {
			fmt.Fprint(w, n)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			time.Sleep(short.write / 2)
		}
		time.Sleep(2 * short.write)
		fmt.Fprint(w, "end")
	})
	c := dial()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(resp.Body); err != nil || string(raw) != "01234end" {
		t.Errorf("%q, %v", raw, err)
	}
}
