package proxy

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestLocationsStayWhereTheServiceIs(t *testing.T) {
	const prefix = "/gpu-instances/3/service"
	for _, c := range []struct{ in, prefix, want string }{
		{"next", prefix, "next"},
		{"/login?next=/a%2Fb#top", prefix, prefix + "/login?next=/a%2Fb#top"},
		{prefix + "/login", prefix, prefix + "/login"},
		{prefix + "-other", prefix, prefix + prefix + "-other"},
		{"http://box.example.org/x", prefix, prefix + "/x"},
		{"https://BOX.example.org", prefix, prefix + "/"},
		{"//box.example.org/x", prefix, prefix + "/x"},
		{"http://localhost:8000/x", "", "/x"},
		{"http://127.0.0.1:8000", "", "/"},
		{"http://0.0.0.0:8000//evil.example/", "", "/evil.example/"},
		{"http://localhost:9999/x", "", "http://localhost:9999/x"},
		{"https://accounts.example.com/o?x=1", prefix, "https://accounts.example.com/o?x=1"},
		{"//evil.example/x", prefix, "//evil.example/x"},
		{"mailto:a@example.org", prefix, "mailto:a@example.org"},
		{"?page=2", prefix, "?page=2"},
		{"#top", prefix, "#top"},
		{"http://user@localhost:8000/", "", "http://user@localhost:8000/"},
		{"://", prefix, "://"},
	} {
		if got := relocate(c.in, "box.example.org", c.prefix, 8000); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
	}
}

func TestPathsAndHostsNameInstancesInOneWay(t *testing.T) {
	for path, want := range map[string]string{
		"/gpu-instances/3/service/":                   "instance-3 ",
		"/gpu-instances/3/service/a%2Fb//c":           "instance-3 a%2Fb//c",
		"/gpu-instances/3/jupyter/../x":               "jupyter-3 ../x",
		"/gpu-instances/3/service":                    "instance-3 no slash",
		"/gpu-instances/03/service/":                  "",
		"/gpu-instances/+3/service/":                  "",
		"/gpu-instances/0/service/":                   "",
		"/gpu-instances/-1/service/":                  "",
		"/gpu-instances/3/services/":                  "",
		"/gpu-instances/3/":                           "",
		"/gpu-instances/9223372036854775808/service/": "",
		"//gpu-instances/3/service/":                  "",
	} {
		got := ""
		if tg, rest, slash, ok := parsePath(path); ok {
			if got = tg.String() + " " + rest; !slash {
				got += "no slash"
			}
		}
		if got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	o, err := ParseOrigins("https://ecolink.example.org", "https://*.apps.example.org:8443/")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"instance-3.apps.example.org":       "instance-3 true",
		"INSTANCE-3.Apps.example.org.:8443": "instance-3 true",
		"jupyter-12.apps.example.org":       "jupyter-12 true",
		"instance-03.apps.example.org":      "instance-0 true",
		"a.instance-3.apps.example.org":     "instance-0 true",
		"apps.example.org":                  "instance-0 false",
		"ecolink.example.org":               "instance-0 false",
		"instance-3.apps.example.org.evil":  "instance-0 false",
		"xapps.example.org":                 "instance-0 false",
	} {
		tg, below := o.match(host)
		if got := tg.String() + map[bool]string{true: " true", false: " false"}[below]; got != want {
			t.Errorf("%s is %q, want %q", host, got, want)
		}
	}
	above, err := ParseOrigins("https://console.example.org", "https://*.example.org")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"console.example.org": false, "CONSOLE.example.org.:443": false, "instance-3.example.org": true, "other.example.org": true} {
		if _, below := above.match(host); below != want {
			t.Errorf("with a pattern above the console, %s is below it: %v", host, below)
		}
	}
	if got := o.host(target{Jupyter, 12}).String(); got != "https://jupyter-12.apps.example.org:8443" {
		t.Errorf("a host is %s", got)
	}
}

func TestPatternsThatCanNotKeepInstancesApartAreRefused(t *testing.T) {
	for _, c := range []struct {
		console, pattern string
		ok, apart        bool
	}{
		{"http://127.0.0.1:7070", "", true, true},
		{"http://localhost", "", true, true},
		{"http://10.0.0.5:7070", "", true, false},
		{"https://ecolink.example.org", "", true, false},
		{"https://example.org", "https://*.example.org", true, true},
		{"http://box.lan", "http://*.apps.box.lan", false, false},
		{"http://box.lan", "http://*.box.lan", false, false},
		{"http://box.lan", "http://*.boxapps.lan", true, true},
		{"http://console.example.org", "http://*.example.org", false, false},
		{"http://console.example.org", "http://*.apps.example.org", false, false},
		{"http://example.org", "http://*.example.org", false, false},
		{"http://10.0.0.5", "http://*.0.0.5", true, true},
		{"https://console.example.org", "https://*.example.org", true, true},
		{"https://instance-3.example.org", "https://*.example.org", false, false},
		{"https://e.org", "https://apps.example.org", false, false},
		{"https://e.org", "https://*", false, false},
		{"https://e.org", "https://*.", false, false},
		{"https://e.org", "https://*.*.org", false, false},
		{"https://e.org", "*.example.org", false, false},
		{"https://e.org", "https://*.example.org/path", false, false},
		{"https://e.org", "ftp://*.example.org", false, false},
	} {
		o, err := ParseOrigins(c.console, c.pattern)
		if (err == nil) != c.ok || err == nil && o.Apart() != c.apart {
			t.Errorf("%s with %q: apart %v, %v", c.console, c.pattern, o.Apart(), err)
		}
	}
}

// FuzzRelocate: what leads to the service itself leads to no other host, and below
// its prefix.
func FuzzRelocate(f *testing.F) {
	for _, s := range []string{"/a", "//evil", "http://localhost:8000//evil", `http://localhost:8000/\evil`, "http://box.example.org/\t/x", "/..//evil", "?", "#", "http:a", "/%2f%2fevil"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, location string, prefixed bool) {
		prefix := ""
		if prefixed {
			prefix = "/gpu-instances/3/service"
		}
		got := relocate(location, "box.example.org", prefix, 8000)
		if got == location {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Host != "" || u.Scheme != "" || strings.HasPrefix(got, "//") || strings.HasPrefix(got, `/\`) {
			t.Errorf("%q became %q, which leads elsewhere: %v", location, got, err)
		}
		if strings.HasPrefix(got, "/") && !strings.HasPrefix(got, prefix) {
			t.Errorf("%q became %q, out of its prefix", location, got)
		}
	})
}

// FuzzConfine: no cookie gets through that a browser could send as one of ours, or
// to another host.
func FuzzConfine(f *testing.F) {
	for _, s := range []string{"a=b", "ecolink_pass=x", " ecolink_pass =x", "=ecolink_pass=x", "ecolink_pass", "a=b;domain=x", "a=b; DOMAIN =x; Path=/", "__hOsT-ecolink_session=1", ";", "a=b;;;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, ok := confine(line)
		if !ok {
			return
		}
		h := http.Header{"Set-Cookie": {got}}
		for _, c := range (&http.Response{Header: h}).Cookies() {
			if isOurs(c.Name) || c.Domain != "" {
				t.Errorf("%q became %q, a cookie %v", line, got, c)
			}
		}
		name, _, found := strings.Cut(got, "=")
		if !found || strings.TrimSpace(name) == "" || isOurs(name) {
			t.Errorf("%q became %q", line, got)
		}
	})
}

// FuzzStripRequest: no cookie or key of ours is left, however it is written.
func FuzzStripRequest(f *testing.F) {
	f.Add("a=b; ecolink_session=x", "Bearer eco_x")
	f.Add("ecolink_session", "bearer  eco_x")
	f.Add(";; __Host-ecolink_pass=1;", "Bearer\teco_")
	f.Fuzz(func(t *testing.T, cookie, authorization string) {
		h := http.Header{"Cookie": {cookie}, "Authorization": {authorization}, "X-Forwarded-For": {"x"}}
		h["X_forwarded_for"] = []string{"x"} // WSGI and CGI take "_" for "-"
		stripRequest(h)
		if h["X_forwarded_for"] != nil {
			t.Error("X_forwarded_for is left")
		}
		for _, c := range (&http.Request{Header: h}).Cookies() {
			if isOurs(c.Name) {
				t.Errorf("%q left %v", cookie, c)
			}
		}
		if isOurKey(h.Get("Authorization")) || h.Get("X-Forwarded-For") != "" {
			t.Errorf("%q left %v", authorization, h)
		}
	})
}

// FuzzParsePath: a path names an instance only as we would write it.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/gpu-instances/3/service/a", "/gpu-instances/3/jupyter", "/gpu-instances//service/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tg, rest, slash, ok := parsePath(path)
		if !ok {
			return
		}
		want := strings.TrimSuffix(tg.prefix(), "/")
		if slash {
			want = tg.prefix() + rest
		}
		if path != want {
			t.Errorf("%q was read as %q", path, want)
		}
	})
}

func TestAServicesAddressIsItsOwnHostsWhereItHasOne(t *testing.T) {
	for _, c := range []struct{ console, pattern, service, jupyter string }{
		{"http://127.0.0.1:7070", "", "http://instance-3.localhost:7070/", "http://jupyter-3.localhost:7070/gpu-instances/3/jupyter/"},
		{"https://gpu.example.org", "https://*.apps.example.net", "https://instance-3.apps.example.net/", "https://jupyter-3.apps.example.net/gpu-instances/3/jupyter/"},
		{"https://gpu.example.org", "", "https://gpu.example.org/gpu-instances/3/service/", "https://gpu.example.org/gpu-instances/3/jupyter/"},
	} {
		o, err := ParseOrigins(c.console, c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.ServiceURL(3); got != c.service {
			t.Errorf("the service is at %s, want %s", got, c.service)
		}
		if got := o.JupyterURL(3); got != c.jupyter {
			t.Errorf("Jupyter is at %s, want %s", got, c.jupyter)
		}
	}
}
