package scheduler

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

func TestAServiceIsSetAtLaunchAndChangedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		r := request("web", 1)
		r.ServicePort, r.ServiceOpen = 8000, true
		i, err := b.Launch(t.Context(), r)
		if err != nil || i.ServicePort != 8000 || !i.ServiceOpen {
			t.Fatalf("%+v, %v", i, err)
		}
		b.settle()
		port, closed, open := 9000, false, true
		set := func(port *int, open *bool) (Instance, error) {
			return b.SetService(t.Context(), ServiceRequest{Account: alice, Instance: i.ID, Actor: identity.UserActor(1), From: "192.0.2.1", Port: port, Open: open})
		}
		if got, err := set(nil, &closed); err != nil || got.ServicePort != 8000 || got.ServiceOpen {
			t.Errorf("closed: %+v, %v", got, err)
		}
		if got, err := set(&port, nil); err != nil || got.ServicePort != 9000 || got.ServiceOpen {
			t.Errorf("another port: %+v, %v", got, err)
		}
		if got, err := set(nil, &open); err != nil || !got.ServiceOpen {
			t.Errorf("open: %+v, %v", got, err)
		}
		none := 0
		if got, err := set(&none, nil); err != nil || got.ServicePort != 0 || got.ServiceOpen {
			t.Errorf("none: %+v, %v", got, err)
		}
		for _, bad := range []int{-1, 65536} {
			_, err := set(&bad, nil)
			wantProblem(t, err, Unprocessable, "service_port")
		}
		_, err = set(nil, &open) // of a service that is not there
		wantProblem(t, err, Unprocessable, "service_port")
		_, err = b.SetService(t.Context(), ServiceRequest{Account: bob, Instance: i.ID, Port: &port})
		wantProblem(t, err, NotFound, "")
		if got := b.read(i.ID); got.ServicePort != 0 || got.ServiceOpen || got.State != Running {
			t.Errorf("a refused change left %+v", got)
		}
		var actions []string
		b.view(func(tx *store.Tx) error {
			events, err := identity.ListAudit(tx, alice, 100, 0)
			for _, e := range events {
				actions = append(actions, e.Action)
			}
			return err
		})
		if n := len(slices.DeleteFunc(actions, func(a string) bool { return !strings.HasPrefix(a, "instance.service.") })); n != 4 {
			t.Errorf("the audit log has %d of 4 changes", n)
		}
		if _, err := b.Terminate(context.Background(), alice, i.ID); err != nil {
			t.Fatal(err)
		}
		_, err = set(&port, nil)
		wantProblem(t, err, Conflict, "")
		b.settle()
	})
}

func TestALaunchWithAServiceThatCanNotBeCreatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		for _, c := range []struct {
			port int
			open bool
		}{{-1, false}, {65536, false}, {0, true}} {
			r := request("web", 1)
			r.ServicePort, r.ServiceOpen = c.port, c.open
			_, err := b.Launch(t.Context(), r)
			wantProblem(t, err, Unprocessable, "service_port")
		}
		b.wantWallet(alice, "100", "0")
	})
}

func TestJupyterGetsSettingsThatAnyOfItsProgramsReads(t *testing.T) {
	i := Instance{ID: 12, Image: "quay.io/jupyter/scipy-notebook", JupyterToken: newJupyterToken()}
	was := map[string]string{"JUPYTER_CONFIG_PATH": "/mine", "JUPYTER_TOKEN": "mine", "A": "b"}
	w := withJupyter(agent.Workload{Env: was}, i)
	if len(i.JupyterToken) < 26 || w.Env["JUPYTER_TOKEN"] != i.JupyterToken || w.Env["JUPYTER_CONFIG_PATH"] != "/mine" || w.Env["A"] != "b" {
		t.Errorf("the environment is %v", w.Env)
	}
	if was["JUPYTER_TOKEN"] != "mine" {
		t.Error("the instance's own environment was changed")
	}
	names := map[string]bool{}
	for _, f := range w.Files {
		names[f.Path] = true
		var text map[string]map[string]any
		if err := json.Unmarshal(f.Content, &text); err != nil {
			t.Fatal(err)
		}
		for _, app := range []string{"ServerApp", "NotebookApp"} {
			if got := text[app]; got["base_url"] != "/gpu-instances/12/jupyter/" || got["port"] != float64(8888) {
				t.Errorf("%s has %v", app, got)
			}
		}
		if strings.Contains(string(f.Content), i.JupyterToken) {
			t.Errorf("%s has the token", f.Path)
		}
	}
	if !names["/run/ecolink/jupyter/jupyter_server_config.json"] || !names["/run/ecolink/jupyter/jupyter_notebook_config.json"] {
		t.Errorf("files %v", names)
	}
	if w := withJupyter(agent.Workload{}, Instance{ID: 1}); w.Env != nil || w.Files != nil {
		t.Errorf("an image without Jupyter gets %+v", w)
	}
	for image, want := range map[string]bool{"docker.io/jupyter/base-notebook": true, "me/my-Jupyter:1": true, "ubuntu:24.04": false} {
		if IsJupyter(image) != want {
			t.Errorf("%s: %v", image, !want)
		}
	}
}
