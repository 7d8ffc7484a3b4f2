package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"ecolink/agent"
	"ecolink/agent/doctor"
)

const (
	// userTrials is how often a start tries at most: what fails once may be a machine
	// that is busy with its own start.
	userTrials     = 3
	userTrialPause = time.Second // between two
)

// usersWereOn begins the reason when an earlier start could. Starts that follow say it
// too, until one can or the run folder is emptied, as at boot.
const usersWereOn = "it could before, and now: "

// userTrial finds out whether containers can run in user namespaces.
type userTrial interface {
	Run(context.Context) error
	Clear(context.Context) error // removes what a trial has left that was killed
}

// userNamespaces decides whether containers run in user namespaces: auto if a trial
// shows that this machine can, on or not at all, off never. The decision is kept
// for the doctor. What runs already stays as it is, until it starts anew.
func userNamespaces(ctx context.Context, c serveConfig, imageDir string, log *slog.Logger) (on bool, err error) {
	return decideUsers(ctx, c, agent.UserTrial{DataDir: c.dataDir, RunDir: c.runDir, Namespace: containerdNamespace(c.dataDir), ImageDir: imageDir, Log: log}, log)
}

func decideUsers(ctx context.Context, c serveConfig, trial userTrial, log *slog.Logger) (on bool, err error) {
	if c.usersDecided != nil {
		return *c.usersDecided, nil
	}
	before, err := userNamespacesNow(c.runDir, nil)
	if err != nil {
		return false, err
	}
	var why error
	switch c.userNamespaces {
	case "auto", "on":
		why = tryUsers(ctx, trial, log)
	case "off":
		// Nobody's containers are in it, so it is in nobody's way.
		if err := trial.Clear(ctx); err != nil {
			log.Warn("what a trial of user namespaces has left could not be removed; the next start tries again", "err", err)
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
	case before == "on" || strings.HasPrefix(before, doctor.NoUserNamespaces+usersWereOn):
		said = doctor.NoUserNamespaces + usersWereOn + oneLine(why)
		log.Warn("user namespaces are off, and they were on before: root in a container that starts now is root of the host without most of its powers; mend that and start EcoLink anew, or have it refuse to start like this with --user-namespaces on", "why", why)
	default:
		said = doctor.NoUserNamespaces + oneLine(why)
		log.Warn("user namespaces are off: root in a container is root of the host without most of its powers", "why", why)
	}
	return on, os.WriteFile(doctor.UserNamespacesFile(c.runDir), []byte(said+"\n"), 0o644)
}

// tryUsers is the last trial's error, or nil as soon as one succeeds.
func tryUsers(ctx context.Context, trial userTrial, log *slog.Logger) (why error) {
	for n := 1; ; n++ {
		why = trial.Run(ctx)
		if why == nil || n == userTrials {
			return why
		}
		log.Info("a trial of user namespaces has failed; it is tried again", "trial", n, "of", userTrials, "why", why)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(userTrialPause):
		}
	}
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// usersAsDecided is c with what the last start has decided, for those who open the
// box's parts but start no container. Before the first start it is c as it was.
func usersAsDecided(c serveConfig) (serveConfig, error) {
	said, err := userNamespacesNow(c.runDir, nil)
	if on := said == "on"; on || strings.HasPrefix(said, "off") {
		c.usersDecided = &on
	}
	return c, err
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
