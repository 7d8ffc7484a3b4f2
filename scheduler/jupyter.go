package scheduler

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"ecolink/agent"
)

// JupyterPort is where Jupyter has to listen in an instance.
const JupyterPort = 8888

// jupyterDir has Jupyter's settings in the container.
const jupyterDir = "/run/ecolink/jupyter"

// IsJupyter tells whether an image is one with Jupyter, by its name.
func IsJupyter(image string) bool { return strings.Contains(strings.ToLower(image), "jupyter") }

// JupyterPath is the path that an instance's Jupyter answers under, with a slash
// at its end.
func JupyterPath(id InstanceID) string { return fmt.Sprintf("/gpu-instances/%d/jupyter/", id) }

// newJupyterToken makes the secret that the proxy shows an instance's Jupyter.
func newJupyterToken() string { return strings.ToLower(rand.Text()) }

// withJupyter adds to a workload what makes any Jupyter in it work behind the
// proxy, however the image starts it: JupyterLab, the server alone or the
// notebook of old read these settings. What the user set is stronger.
//
// The token is in the environment, where all of them look for one; whoever is in
// the container is its root and may know it.
func withJupyter(w agent.Workload, i Instance) agent.Workload {
	if i.JupyterToken == "" {
		return w
	}
	server := map[string]any{
		"base_url": JupyterPath(i.ID), "ip": "127.0.0.1", "port": JupyterPort, "port_retries": 0,
		"allow_root": true, "allow_remote_access": true, "trust_xheaders": true, "open_browser": false,
	}
	text, err := json.MarshalIndent(map[string]any{"ServerApp": server, "NotebookApp": server}, "", "  ")
	if err != nil {
		panic(err) // of strings, numbers and booleans
	}
	for _, name := range []string{"jupyter_server_config.json", "jupyter_notebook_config.json"} {
		w.Files = append(w.Files, agent.File{Path: jupyterDir + "/" + name, Content: text})
	}
	env := map[string]string{"JUPYTER_TOKEN": i.JupyterToken, "JUPYTER_CONFIG_PATH": jupyterDir}
	maps.Copy(env, w.Env)
	// With another token the proxy could not show the right one.
	env["JUPYTER_TOKEN"] = i.JupyterToken
	w.Env = env
	return w
}
