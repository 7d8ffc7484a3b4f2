package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/agent/doctor"
)

// trial fails a number of times first.
type trial struct {
	fails, runs int
	clear       error
}

func (t *trial) Run(context.Context) error {
	t.runs++
	if t.runs <= t.fails {
		return errors.New("no\nroom")
	}
	return nil
}

func (t *trial) Clear(context.Context) error { return t.clear }

// decide decides as a start in runDir does, and tells what that has logged and kept.
func decide(t *testing.T, runDir, setting string, tr *trial) (on bool, logged, kept string, err error) {
	t.Helper()
	return decideWith(t, serveConfig{runDir: runDir, userNamespaces: setting}, tr)
}

func decideWith(t *testing.T, c serveConfig, tr *trial) (on bool, logged, kept string, err error) {
	t.Helper()
	var log bytes.Buffer
	on, err = decideUsers(t.Context(), c, tr, slog.New(slog.NewTextHandler(&log, nil)))
	kept, readErr := userNamespacesNow(c.runDir, nil)
	must(t, readErr)
	return on, log.String(), kept, err
}

func TestUserNamespacesAreTriedAgainBeforeTheyAreOff(t *testing.T) {
	for _, setting := range []string{"auto", "on"} {
		for fails, can := range map[int]bool{0: true, 1: true, userTrials - 1: true, userTrials: false, userTrials + 1: false} {
			runDir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				tr, began := &trial{fails: fails}, time.Now()
				on, logged, kept, err := decide(t, runDir, setting, tr)
				if on != can || (err == nil) != (can || setting == "auto") || tr.runs != min(fails+1, userTrials) {
					t.Errorf("%s, %d fail: %v after %d trials, %v", setting, fails, on, tr.runs, err)
				}
				if took := time.Since(began); took != time.Duration(tr.runs-1)*userTrialPause {
					t.Errorf("%d trials took %s", tr.runs, took)
				}
				if can && kept != "on" || !can && setting == "auto" && kept != doctor.NoUserNamespaces+"no room" || !can && setting == "on" && kept != "" {
					t.Errorf("%s, %d fail: %q is kept", setting, fails, kept)
				}
				if strings.Contains(logged, "before") {
					t.Errorf("nothing was decided before: %s", logged)
				}
			})
		}
	}
}

func TestTrialsOfUserNamespacesEndWithTheStart(t *testing.T) {
	runDir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), userTrialPause/2)
		defer cancel()
		tr := &trial{fails: userTrials}
		on, err := decideUsers(ctx, serveConfig{runDir: runDir, userNamespaces: "auto"}, tr, slog.New(slog.DiscardHandler))
		if on || !errors.Is(err, context.DeadlineExceeded) || tr.runs != 1 {
			t.Errorf("%v after %d trials, %v", on, tr.runs, err)
		}
	})
	if kept, err := userNamespacesNow(runDir, nil); kept != "" || err != nil {
		t.Errorf("%q is kept, %v", kept, err)
	}
}

func TestUserNamespacesThatAreOffSayWhetherTheyWereOnBefore(t *testing.T) {
	runDir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		for n, step := range []struct {
			setting    string
			fails      int
			kept, says string
		}{
			{"auto", 9, doctor.NoUserNamespaces + "no room", "user namespaces are off: "},
			{"auto", 0, "on", "user namespaces are on"},
			{"auto", 9, doctor.NoUserNamespaces + usersWereOn + "no room", "user namespaces are off, and they were on before"},
			{"auto", 9, doctor.NoUserNamespaces + usersWereOn + "no room", "user namespaces are off, and they were on before"}, // still
			{"off", 0, "off, as --user-namespaces says", "user namespaces are off: "},
			{"auto", 9, doctor.NoUserNamespaces + "no room", "user namespaces are off: "}, // it was somebody's wish
		} {
			if _, logged, kept, err := decide(t, runDir, step.setting, &trial{fails: step.fails}); err != nil || kept != step.kept || !strings.Contains(logged, step.says) {
				t.Errorf("step %d: %q is kept, %v\n%s", n, kept, err, logged)
			}
		}
	})
}

func TestUserNamespacesThatAreSwitchedOffNeedNotBeClear(t *testing.T) {
	on, logged, kept, err := decide(t, t.TempDir(), "off", &trial{clear: errors.New("device or resource busy")})
	if on || err != nil || !strings.Contains(logged, "level=WARN") || !strings.Contains(logged, "device or resource busy") || !strings.HasPrefix(kept, "off") {
		t.Errorf("%v, %q is kept, %v\n%s", on, kept, err, logged)
	}
	if _, _, kept, err := decide(t, t.TempDir(), "maybe", &trial{}); err == nil || !strings.Contains(err.Error(), "choose auto, on or off") || kept != "" {
		t.Errorf("%q is kept, %v", kept, err)
	}
}

// A repair beside no EcoLink opens the parts with what the last start has decided,
// whatever a trial would say now, and whatever the settings say by now.
func TestRepairsKeepWhatTheLastStartDecidedOfUserNamespaces(t *testing.T) {
	for said, want := range map[string]bool{"on": true, "off, as --user-namespaces says": false, doctor.NoUserNamespaces + "no room": false} {
		for _, setting := range []string{"auto", "on", "off"} {
			runDir := t.TempDir()
			must(t, os.WriteFile(doctor.UserNamespacesFile(runDir), []byte(said+"\n"), 0o600))
			c, err := usersAsDecided(serveConfig{runDir: runDir, userNamespaces: setting})
			must(t, err)
			tr := &trial{}
			if on, _, kept, err := decideWith(t, c, tr); on != want || err != nil || tr.runs != 0 || kept != said {
				t.Errorf("%q, %s: %v after %d trials, %q is kept, %v", said, setting, on, tr.runs, kept, err)
			}
		}
	}
	c, err := usersAsDecided(serveConfig{runDir: t.TempDir(), userNamespaces: "off"})
	if c.usersDecided != nil || err != nil {
		t.Errorf("nothing is decided, and got %v, %v", c.usersDecided, err)
	}
}
