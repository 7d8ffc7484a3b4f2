package api

import (
	"net/http"
	"strings"
	"testing"

	"ecolink/agent"
)

func (b *box) storeLogin(p party, host, user, password string) reply {
	b.t.Helper()
	return b.call(p, http.MethodPost, "/v1/registry-credentials", object{"host": host, "username": user, "password": password})
}

func TestLogInForARegistryIsUsedForItsAccountsImagesOfThatRegistryAlone(t *testing.T) {
	b := newBox(t)
	b.storeLogin(b.alice, "https://GHCR.io/", "ana", "hunter2").want(http.StatusCreated)
	asked := func(p party, image string) agent.Image {
		t.Helper()
		body := launchBody("box", 1)
		body["image"] = image
		b.call(p, http.MethodPost, "/v1/gpu-instances?dry_run=true", body)
		b.machine.mu.Lock()
		defer b.machine.mu.Unlock()
		return b.machine.wanted[len(b.machine.wanted)-1]
	}
	if l := asked(b.alice, "ghcr.io/team/box:1").Login; l == nil || l.Username != "ana" || l.Password != "hunter2" {
		t.Errorf("got %v", l)
	}
	if l := asked(b.alice, "quay.io/team/box:1").Login; l != nil {
		t.Errorf("another registry got %v", l)
	}
	if l := asked(b.bob, "ghcr.io/team/box:1").Login; l != nil {
		t.Errorf("another account got %v", l)
	}
}

func TestLogInIsReplacedListedWithoutItsPasswordAndRemoved(t *testing.T) {
	b := newBox(t)
	first := b.storeLogin(b.alice, "docker.io", "ana", "hunter2").want(http.StatusCreated)
	second := b.storeLogin(b.alice, "index.docker.io", "ana2", "hunter3").want(http.StatusCreated)
	if first.at("id") != second.at("id") {
		t.Error("Docker Hub has two")
	}
	list := b.call(b.alice, http.MethodGet, "/v1/registry-credentials", nil).want(http.StatusOK)
	if list.at("data.0.username") != "ana2" || list.at("data.0.host") != "docker.io" || strings.Contains(list.raw, "hunter") || strings.Contains(list.raw, "data.1") {
		t.Errorf("got %s", list.raw)
	}
	if strings.Contains(b.log.String(), "hunter") {
		t.Error("a password is in the log")
	}
	b.call(b.bob, http.MethodDelete, "/v1/registry-credentials/1", nil).refused(http.StatusNotFound, "not_found", "")
	b.call(b.alice, http.MethodDelete, "/v1/registry-credentials/1", nil).want(http.StatusNoContent)
	b.call(b.alice, http.MethodDelete, "/v1/registry-credentials/1", nil).refused(http.StatusNotFound, "not_found", "")
}

func TestLogInThatCannotBeOneIsRefusedWithItsField(t *testing.T) {
	b := newBox(t)
	for _, c := range []struct{ host, user, password, field string }{
		{"not a host", "ana", "x", "host"},
		{"https://", "ana", "x", "host"},
		{"ghcr.io", "an\na", "x", "username"},
		{"ghcr.io", "ana", "two\nlines", "password"},
		{"ghcr.io", "ana", strings.Repeat("x", 16<<10), ""},
	} {
		r := b.storeLogin(b.alice, c.host, c.user, c.password)
		if c.field == "" {
			r.want(http.StatusCreated)
			continue
		}
		r.refused(http.StatusUnprocessableEntity, "unprocessable", c.field)
	}
	for n := range 60 {
		r := b.storeLogin(b.alice, strings.Repeat("x", n+1)+".example.org", "ana", "x")
		if r.status == http.StatusConflict {
			if n < 40 {
				t.Errorf("refused after %d", n)
			}
			return
		}
		r.want(http.StatusCreated)
	}
	t.Error("there is no limit")
}

func TestInstanceShowsTheDigestThatItRuns(t *testing.T) {
	b := newBox(t)
	i := b.call(b.alice, http.MethodPost, "/v1/gpu-instances", launchBody("box", 1)).want(http.StatusCreated)
	if d, _ := i.at("image_digest").(string); !strings.HasPrefix(d, "sha256:") {
		t.Errorf("got %s", i.raw)
	}
}
