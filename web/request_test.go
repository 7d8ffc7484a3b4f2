package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAddressBehindAProxyIsTheOneThatItAdded(t *testing.T) {
	for _, c := range []struct {
		peer    string
		forward []string
		want    string
	}{
		{"127.0.0.1:4711", []string{"192.0.2.7"}, "192.0.2.7"},
		{"[::1]:4711", []string{"2001:db8::7"}, "2001:db8::7"},
		{"127.0.0.1:4711", []string{"10.0.0.1, 198.51.100.1,192.0.2.7 "}, "192.0.2.7"}, // the client claimed the others
		{"127.0.0.1:4711", []string{"198.51.100.1", "192.0.2.7"}, "192.0.2.7"},
		{"127.0.0.1:4711", []string{"::ffff:192.0.2.7"}, "192.0.2.7"},
		{"127.0.0.1:4711", []string{"fe80::1%eth0"}, "fe80::1"},
		{"127.0.0.1:4711", nil, "127.0.0.1"},
		{"127.0.0.1:4711", []string{""}, "127.0.0.1"},
		{"127.0.0.1:4711", []string{"192.0.2.7, unknown"}, "127.0.0.1"},
		{"203.0.113.9:4711", []string{"192.0.2.7"}, "203.0.113.9"}, // not our proxy
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr, r.Header["X-Forwarded-For"] = c.peer, c.forward
		got := ""
		BehindProxy(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = From(r) })).ServeHTTP(httptest.NewRecorder(), r)
		if got != c.want || r.RemoteAddr != c.peer {
			t.Errorf("%s for %q is %s, want %s", c.peer, c.forward, got, c.want)
		}
	}
}
