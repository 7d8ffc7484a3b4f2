package initproc_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecolink/agent/keeper/keepertest"
)

func TestItRefusesToBeAnythingButProcessOne(t *testing.T) {
	output, err := exec.Command(keepertest.Binary(t), "init", "--", "/bin/true").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Fatalf("got %v, want exit status 2", err)
	}
	if !strings.Contains(string(output), "must be process 1") {
		t.Fatalf("it does not say why: %s", output)
	}
}

func TestABoxWithoutACommandStaysUntilItIsStopped(t *testing.T) {
	b := newBox(t)
	time.Sleep(100 * time.Millisecond)
	b.mustBeAlive()
	if found := b.processes(); len(found) != 0 {
		t.Fatalf("something runs: %v", found)
	}
	b.signal(syscall.SIGTERM)
	b.ends()
	if said := b.said(); said != "" {
		t.Fatalf("it said %q", said)
	}
}

func TestTheBoxGoesOnAfterItsCommandAndSaysHowThatEnded(t *testing.T) {
	rows := map[string]struct{ script, says string }{
		"success": {"exit 0", "ecolink: start command exited with status 0; the instance goes on\n"},
		"failure": {"exit 3", "ecolink: start command exited with status 3; the instance goes on\n"},
		"signal":  {"kill -9 $$", "ecolink: start command was ended by signal 9 (killed); the instance goes on\n"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "--", "/bin/sh", "-c", row.script)
			b.waitFor(row.says)
			time.Sleep(100 * time.Millisecond)
			b.mustBeAlive()
			b.signal(syscall.SIGTERM)
			b.ends()
			if said := b.said(); said != row.says {
				t.Fatalf("it said %q", said)
			}
		})
	}
}

func TestACommandThatCannotStartIsSaidAndTheBoxGoesOn(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	rows := map[string]struct {
		args []string
		says string
	}{
		"not in PATH":         {[]string{"no-such-program"}, "no-such-program: not found in PATH (/"},
		"no such file":        {[]string{"--", "/no/such/program"}, "/no/such/program: no such file or directory"},
		"not executable":      {[]string{plain}, plain + ": permission denied"},
		"a folder":            {[]string{"/tmp/"}, "/tmp/: permission denied"},
		"empty name":          {[]string{""}, "the command's name is empty"},
		"dashes are one only": {[]string{"--", "--"}, "--: not found in PATH"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, row.args...)
			b.waitFor("ecolink: start command could not start: " + row.says)
			b.waitFor("; the instance goes on\n")
			b.mustBeAlive()
			b.signal(syscall.SIGTERM)
			b.ends()
		})
	}
}

func TestOrphansAreReaped(t *testing.T) {
	b := newBox(t, "/bin/sh", "-c", `
		i=0; while [ $i -lt 60 ]; do (sleep 0.0$((i % 9)) &); i=$((i+1)); done
		echo all started; exec sleep 1000`)
	b.waitFor("all started")
	b.eventually("only the command is left", func() bool {
		found := b.processes()
		return len(found) == 1 && found[0].name == "sleep" && !found[0].zombie
	})
	b.signal(syscall.SIGTERM)
	b.ends()
}

func TestStopEndsEverybodyAndLetsThemFinish(t *testing.T) {
	dir := t.TempDir()
	// Each of them needs some time to save its work.
	saves := func(name string) string {
		return fmt.Sprintf(`trap 'sleep 0.3; echo saved >%s/%s; exit' TERM; echo %s runs; while :; do sleep 0.05; done`, dir, name, name)
	}
	b := newBox(t, "/bin/sh", "-c", "("+saves("orphan")+") & ("+saves("stopped")+") & echo $! >"+dir+"/pid; "+saves("command"))
	b.enter(saves("terminal"))
	names := []string{"orphan", "stopped", "command", "terminal"}
	for _, name := range names {
		b.waitFor(name + " runs")
	}
	b.enter("kill -STOP $(cat " + dir + "/pid); echo stopped it")
	b.waitFor("stopped it")

	b.signal(syscall.SIGTERM)
	b.ends()
	for _, name := range names {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != "saved\n" {
			t.Errorf("%s was not given the time to save its work: %v", name, err)
		}
	}
}

func TestAShellThatIgnoresTheStopDoesNotHoldItUp(t *testing.T) {
	b := newBox(t)
	b.enter(`trap "" TERM; echo shell runs; sleep 1000; echo never`)
	b.waitFor("shell runs")
	b.eventually("the shell runs its program", func() bool { return len(b.processes()) > 1 })
	b.signal(syscall.SIGTERM)
	if took := b.ends(); took > 5*time.Second {
		t.Fatalf("it took %v", took)
	}
}

func TestAChildThatIgnoresTheStopIsWaitedFor(t *testing.T) {
	b := newBox(t, "/bin/sh", "-c", `trap "" TERM; echo runs; sleep 0.5; echo done; exit 7`)
	b.waitFor("runs")
	b.signal(syscall.SIGTERM)
	b.ends()
	if !strings.Contains(b.said(), "done") {
		t.Fatal("the command was not waited for")
	}
}

func TestAStopIsNotLostInABurstOfDeaths(t *testing.T) {
	b := newBox(t, "/bin/sh", "-c", `
		echo runs; while :; do for i in 1 2 3 4 5 6 7 8 9 10; do (true &); done; done`)
	b.waitFor("runs")
	time.Sleep(100 * time.Millisecond)
	b.signal(syscall.SIGTERM)
	b.ends()
}

func TestTheCommandsGroupGetsTheForwardedSignals(t *testing.T) {
	// A shell's children in the background ignore QUIT, so they don't tell.
	b := newBox(t, "/bin/sh", "-c", `
		for s in HUP QUIT USR1 USR2 WINCH; do trap "echo parent $s" $s; done
		sh -c 'for s in HUP USR1 USR2 WINCH; do trap "echo child $s" $s; done
			echo child runs; while :; do sleep 0.05; done' &
		while :; do wait; done`)
	b.waitFor("child runs")
	for _, row := range []struct {
		signal syscall.Signal
		heard  []string
	}{
		{syscall.SIGHUP, []string{"parent HUP", "child HUP"}},
		{syscall.SIGQUIT, []string{"parent QUIT"}},
		{syscall.SIGUSR1, []string{"parent USR1", "child USR1"}},
		{syscall.SIGUSR2, []string{"parent USR2", "child USR2"}},
		{syscall.SIGWINCH, []string{"parent WINCH", "child WINCH"}},
	} {
		b.signal(row.signal)
		for _, text := range row.heard {
			b.waitFor(text)
		}
	}
	b.mustBeAlive()
	b.signal(syscall.SIGTERM)
	b.ends()
}

func TestAnInterruptGoesToTheCommandAndThenStopsTheBox(t *testing.T) {
	b := newBox(t, "/bin/sh", "-c", `
		trap 'echo interrupted; exit 5' INT; trap 'echo terminated' TERM
		(setsid sh -c 'trap "sleep 0.2; echo orphan saved; exit" TERM; echo orphan runs; while :; do sleep 0.05; done' &)
		while :; do sleep 0.05; done`)
	b.waitFor("orphan runs")
	b.signal(syscall.SIGINT)
	b.ends()
	said := b.said()
	for _, want := range []string{"interrupted", "orphan saved"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in: %s", want, said)
		}
	}
	for _, never := range []string{"terminated", "goes on"} {
		if strings.Contains(said, never) {
			t.Errorf("%q is in: %s", never, said)
		}
	}
}

func TestAnInterruptStopsABoxWithoutACommand(t *testing.T) {
	b := newBox(t)
	b.signal(syscall.SIGINT)
	b.ends()
}

func TestNoOtherSignalEndsProcessOne(t *testing.T) {
	b := newBox(t, "/bin/sh", "-c", "trap '' HUP INT QUIT USR1 USR2; echo runs; exec sleep 1000")
	b.waitFor("runs")
	const last = syscall.Signal(64)
	for s := syscall.Signal(1); s <= last; s++ {
		switch s {
		case syscall.SIGTERM, syscall.SIGINT: // they are for stopping
		case syscall.SIGKILL, syscall.SIGSTOP: // these the kernel drops when they come from inside
		default:
			b.signal(s)
			time.Sleep(2 * time.Millisecond)
		}
	}
	b.enter(`for s in 6 7 8 9 11 14 19; do kill -$s 1; done; echo all sent`)
	b.waitFor("all sent")
	time.Sleep(100 * time.Millisecond)
	b.mustBeAlive()
	b.signal(syscall.SIGTERM)
	b.ends()
}

func TestTheCommandBeginsWithDefaultSignalsAndItsOwnSession(t *testing.T) {
	b := newBox(t, "/bin/sh", "-c", `grep -E "^Sig(Blk|Ign)" /proc/self/status; cut -d" " -f5,6 /proc/$$/stat; echo pid $$`)
	b.waitFor("goes on")
	said := strings.ReplaceAll(b.said(), "\t", " ")
	pid := said[strings.Index(said, "pid ")+4:]
	pid = pid[:strings.IndexByte(pid, '\n')]
	// The last eight digits are signals 1 to 32. Of those, 32 and what is above it
	// are the C library's own; who started the tests may have them ignored.
	var ignored uint64
	at := strings.Index(said, "SigIgn: ")
	if _, err := fmt.Sscanf(said[at:], "SigIgn: %x", &ignored); err != nil || ignored&0x7fffffff != 0 {
		t.Errorf("signals are ignored: %v, %s", err, said)
	}
	for _, want := range []string{"SigBlk: 0000000000000000", pid + " " + pid + "\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in: %s", want, said)
		}
	}
}

func TestProcessOneOutlivesTheReaderOfItsLog(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	_ = r.Close()
	b := newBoxWith(t, boxOptions{stderr: w}, "no-such-program")
	time.Sleep(100 * time.Millisecond)
	b.mustBeAlive()
	b.signal(syscall.SIGTERM)
	b.ends()
}

// fullPipe is a pipe that nobody reads and that takes nothing more.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	_ = w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for err == nil {
		_, err = w.Write(make([]byte, 4<<10))
	}
	return w
}

func TestAFullLogDoesNotHoldUpProcessOne(t *testing.T) {
	b := newBoxWith(t, boxOptions{stderr: fullPipe(t)}, "/bin/sh", "-c", "exit 1")
	b.eventually("the command is reaped", func() bool { return len(b.processes()) == 0 })
	b.signal(syscall.SIGTERM)
	b.ends()
}

// TestProcessOneGoesOnWhenNoThreadCanBeMade has a box at its limit of
// processes, which a fork bomb or a crowd of data loaders reaches, and a log
// that is full, so that the note of the command's end occupies a thread.
func TestProcessOneGoesOnWhenNoThreadCanBeMade(t *testing.T) {
	const user = "setpriv --reuid 54321 --regid 54321 --clear-groups" // root has no limit
	for range 3 {
		b := newBoxWith(t, boxOptions{prefix: user, stderr: fullPipe(t)},
			"/bin/sh", "-c", `prlimit --pid 1 --nproc=1:1 && echo limited; exec sleep 1000`)
		b.waitFor("limited")
		storm := func(pause time.Duration) {
			for range 100 {
				b.signal(syscall.SIGWINCH)
				b.signal(syscall.SIGCHLD)
				b.signal(syscall.SIGALRM)
				time.Sleep(pause)
			}
		}
		storm(0)
		b.enter(`i=0; while [ $i -lt 60 ]; do (sleep 0.0$((i % 9)) &); i=$((i+1)); done
			sleep 0.2; kill -KILL 2 $(pidof sleep); echo bombed`)
		b.waitFor("bombed")
		storm(time.Millisecond)
		b.mustBeAlive()
		b.signal(syscall.SIGTERM)
		b.ends()
	}
}

func TestProcessOneTakesLittleMemory(t *testing.T) {
	b := newBox(t, "/bin/sh", "-c", "exit 0")
	b.waitFor("goes on")
	all, own := keepertest.ResidentBytes(t, b.pid)
	t.Logf("process 1: %d KiB resident, %d KiB of them its own", all>>10, own>>10)
	if own > 3<<20 {
		t.Fatalf("%d bytes", own)
	}
}
