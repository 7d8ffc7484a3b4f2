package console

import (
	"net/url"
	"testing"

	"ecolink/agent"
	"ecolink/scheduler"
)

func TestLogInsForRegistriesAreStoredShownWithoutTheirPasswordsAndRemoved(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	b.get("/keys").want(200, "/keys/registries")
	b.get("/keys/registries").want(200, "No log-ins yet", `aria-current="page"`).without(`href="/keys" aria-current`)
	b.get("/instances/new").want(200, `<a href="/keys/registries">Add a registry log-in</a>`)
	b.submit("/keys/registries", "/keys/registries", url.Values{
		"host": {"https://GHCR.io"}, "username": {"ana<b>"}, "password": {"hunter2"},
	}).wantRedirect("/keys/registries")
	b.get("/keys/registries").want(200, "ghcr.io", "ana&lt;b&gt;", "/keys/registries/1/remove").without("hunter2").without("ana<b>")
	b.submit("/keys/registries", "/keys/registries", url.Values{
		"host": {"no host"}, "username": {"ana"}, "password": {"hunter2"},
	}).want(422, "is not the host of a registry", `value="no host"`, `value="ana"`).without("hunter2")
	b.submit("/keys/registries", "/keys/registries/1/remove", nil).wantRedirect("/keys/registries")
	b.get("/keys/registries").want(200, "No log-ins yet")
	w.addMember("mel@example.org")
	w.as("mel@example.org").get("/keys/registries").want(200, "Owners of the account").without(`name="password"`)
}

func TestInstanceShowsItsDigestAndTheLayersThatAreComing(t *testing.T) {
	w := newWorld(t, 1).people()
	w.machine.set(func() {
		w.machine.hold = true
		w.machine.pulling = agent.PullProgress{Layers: 3, LayersDone: 1, Bytes: 150, TotalBytes: 300, Each: []agent.PullLayer{
			{Digest: "aaaaaaaaaaaa", Bytes: 100, TotalBytes: 100, State: agent.LayerDone},
			{Digest: "bbbbbbbbbbbb", Bytes: 50, TotalBytes: 100, State: agent.LayerDownloading},
			{Digest: "cccccccccccc", TotalBytes: 100, State: agent.LayerWaiting},
		}}
	})
	w.launch("box", "demo/box", scheduler.Pulling)
	page := w.as("ana@example.org").get("/instances/1")
	page.want(200, "1 of 3 layers", "bbbbbbbbbbbb", "downloading, 50 B of 100 B", "sha256:").without("aaaaaaaaaaaa").without("cccccccccccc")
}
