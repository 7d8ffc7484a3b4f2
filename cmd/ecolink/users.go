package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"ecolink/agent"
	"ecolink/agent/doctor"
)

// userNamespaces decides whether containers run in user namespaces: auto if a trial
// shows that this machine can, on or not at all, off never. The decision is kept
// for the doctor. What runs already stays as it is, until it starts anew.
func userNamespaces(ctx context.Context, c serveConfig, imageDir string, log *slog.Logger) (on bool, err error) {
	trial := agent.UserTrial{DataDir: c.dataDir, RunDir: c.runDir, Namespace: containerdNamespace(c.dataDir), ImageDir: imageDir, Log: log}
	var why error
	switch c.userNamespaces {
	case "auto", "on":
		why = trial.Run(ctx)
	case "off":
		if err := trial.Clear(ctx); err != nil {
			return false, err
		}
	default:
		return false, fmt.Errorf("--user-namespaces %s: choose auto, on or off", c.userNamespaces)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	said := "on"
	switch {
	case c.userNamespaces == "off":
		said = "off, as --user-namespaces says"
		log.Info("user namespaces are off: root in a container is root of the host without most of its powers")
	case why == nil:
		on = true
		log.Info("user namespaces are on: root in a container is nobody on the host")
	case c.userNamespaces == "on":
		return false, fmt.Errorf("--user-namespaces on: this machine can't run containers in user namespaces: %w: mend that, or choose auto or off", why)
	default:
		said = doctor.NoUserNamespaces + strings.Join(strings.Fields(why.Error()), " ")
		log.Warn("user namespaces are off: root in a container is root of the host without most of its powers", "why", why)
	}
	return on, os.WriteFile(doctor.UserNamespacesFile(c.runDir), []byte(said+"\n"), 0o644)
}

// userNamespacesNow is what the last start has decided; "" before the first. An error
// joins the one that is there.
func userNamespacesNow(runDir string, other error) (string, error) {
	said, err := os.ReadFile(doctor.UserNamespacesFile(runDir))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return strings.TrimSpace(string(said)), errors.Join(other, err)
}
