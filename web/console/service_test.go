package console

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"ecolink/scheduler"
)

func TestServiceIsOpenedChangedAndClosedOnItsPage(t *testing.T) {
	w := newWorld(t, 1).people()
	w.launch("box", "demo/box", scheduler.Running)
	b := w.as("ana@example.org")
	b.get("/instances/1").want(200, "Add a service").without("Open Jupyter", "/gpu-instances/1/service/")

	l, err := net.Listen("tcp", "127.0.0.1:0") // where the stand-in machine looks
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	b.part("/instances/1/service").want(200, "Service port").without("<html")
	b.submit("/instances/1/service", "/instances/1/service", url.Values{"service_port": {port}}).wantRedirect("/instances/1?note=service")
	b.get("/instances/1?note=service").want(200, "/gpu-instances/1/service/", "port "+port, "members of this account only", "The service is as you set it").without("nothing listens")
	l.Close()
	b.submit("/instances/1/service", "/instances/1/service", url.Values{"service_port": {port}, "service_public": {"true"}}).wantRedirect("/instances/1?note=service")
	b.get("/instances/1").want(200, "open to everybody", "nothing listens there yet", "Change or close")
	b.get("/instances/1/service").want(200, `value="`+port+`"`, "checked")

	for _, c := range []struct{ port, public, text string }{
		{"x", "", "a whole number"}, {"65536", "", "1 to 65535"}, {"-1", "", "1 to 65535"}, {"", "true", "name the port"},
	} {
		b.submit("/instances/1/service", "/instances/1/service", url.Values{"service_port": {c.port}, "service_public": {c.public}}).want(422, c.text)
	}
	b.submit("/instances/1/service", "/instances/1/service", url.Values{"service_port": {""}}).wantRedirect("/instances/1?note=service")
	b.get("/instances/1").want(200, "Add a service")
	b.submit("/instances/1/terminate", "/instances/1/terminate", nil)
	b.get("/instances/1").want(200).without("Add a service")
}

func TestLaunchFormAsksForTheService(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	b.submit("/instances/new", "/instances/new", filled(url.Values{"service_port": {"8000"}, "service_public": {"true"}})).wantRedirect("/instances/1")
	if i := w.until(1, scheduler.Running); i.ServicePort != 8000 || !i.ServiceOpen {
		t.Errorf("launched %+v", i)
	}
	b.submit("/instances/new", "/instances/new", filled(url.Values{"name": {"b"}, "service_port": {"70000"}})).want(422, "1 to 65535", `value="70000"`)
}

func TestJupyterIsLinkedOnceItAnswers(t *testing.T) {
	i := instanceView{}
	i.ID, i.State, i.JupyterToken = 1, scheduler.Running, "the-token"
	for answers, want := range map[bool]string{true: `href="/gpu-instances/1/jupyter/"`, false: "does not answer yet"} {
		i.Service.Jupyter = answers
		var page strings.Builder
		if err := serviceCard(i).Render(t.Context(), &page); err != nil {
			t.Fatal(err)
		}
		if got := page.String(); !strings.Contains(got, want) || strings.Contains(got, "Open Jupyter") != answers || strings.Contains(got, i.JupyterToken) {
			t.Errorf("answering %v: %s", answers, got)
		}
	}
}
