package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"ecolink/agent/device"
	"ecolink/agent/network"
	"ecolink/agent/runtime"
	"ecolink/agent/volume"
	"ecolink/nvml"
)

// victimVariable makes this program the victim of the crash test.
const (
	victimVariable = "ECOLINK_TEST_CRASH_VICTIM"
	imageVariable  = "ECOLINK_TEST_CRASH_IMAGE"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(victimVariable); text != "" {
		if err := beVictim(text); err != nil {
			fmt.Fprintln(os.Stderr, "victim:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// beVictim is another EcoLink that runs, enters and removes workloads as fast as
// it can, until the test kills it. It says which it has begun with.
func beVictim(where string) error {
	var p places
	if err := json.Unmarshal([]byte(where), &p); err != nil {
		return err
	}
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	lib, err := nvml.Open("simulated:h100x4")
	if err != nil {
		return err
	}
	inv, err := lib.Inventory()
	if err != nil {
		return err
	}
	net, err := network.New(ctx, p.Network, log)
	if err != nil {
		return err
	}
	r, err := runtime.Connect(ctx, p.Runtime, log)
	if err != nil {
		return err
	}
	devices, err := device.New(inv, p.CDI)
	if err != nil {
		return err
	}
	pool, err := volume.Open(p.Volumes, log)
	if err != nil {
		return err
	}
	box := NewBox(r, net, devices, pool, p.Terminals)
	scratch, err := volume.OpenScratch(ctx, p.Scratch, log)
	if err != nil {
		return err
	}
	box.UseScratch(scratch)
	fmt.Println("ready")
	for n, g := range inv.GPUs[:3] {
		go func() {
			for round := 0; ; round++ {
				w := Workload{ID: fmt.Sprintf("w-%d-%d", n, round%3), Image: os.Getenv(imageVariable), Hostname: "box", GPUs: []string{g.UUID}, Resources: Resources{ScratchBytes: 64 << 20},
					Mounts: []Mount{{fmt.Sprint("drive-", n), "/data"}, {"fs-1", "/shared"}}}
				if _, err := box.Run(ctx, w); err != nil {
					fmt.Fprintln(os.Stderr, "victim: run:", err)
					time.Sleep(10 * time.Millisecond)
					continue
				}
				if term, err := box.Terminal(ctx, w.ID, "main", -1, 80, 24); err == nil {
					io.WriteString(term, "echo here\n")
					term.Close()
				}
				go box.Exec(ctx, w.ID, []string{"sleep", "1000"}, Stdio{Stdout: io.Discard, Stderr: io.Discard})
				if rand.N(3) > 0 {
					if err := box.Remove(ctx, w.ID, 0); err != nil {
						fmt.Fprintln(os.Stderr, "victim: remove:", err)
					}
				}
			}
		}()
	}
	select {}
}

// EcoLink may be killed at any moment. The next one finds whatever is there of
// each workload, can make it run and can remove it, and then nothing is left.
func TestKillAtAnyMomentLeavesNothingThatCannotBeRunAndRemoved(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	m.run(Workload{ID: "first", Image: image, Hostname: "box"}) // the image is here from now on
	if err := m.Remove(background, "first", 0); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"drive-0", "drive-1", "drive-2", "fs-1"} {
		m.create(id)
	}
	quiet := slog.New(slog.DiscardHandler)
	const deaths, lifetime = 9, 900 * time.Millisecond
	for n := range deaths {
		m.close()
		m.killVictim(image, rand.N(lifetime))
		m.open(quiet)
		if n%3 == 2 { // else the next victim finds what this one has left
			m.takeOver(image)
		}
	}
}

// takeOver makes half of what is there run, removes everything and checks that
// nothing is left.
func (m *machine) takeOver(image string) {
	m.t.Helper()
	ids, err := m.List(background)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Logf("found %v", ids)
	for n, id := range ids {
		if n%2 == 0 {
			o, err := m.runPatiently(Workload{ID: id, Image: image, Hostname: "box", GPUs: []string{m.gpus.GPUs[3].UUID}})
			if err != nil || o.Presence != Running {
				m.t.Errorf("%s can't be run: %+v, %v", id, o, err)
				continue
			}
			term, err := m.Terminal(background, id, "main", -1, 80, 24)
			if err != nil {
				m.t.Errorf("%s can't be entered: %v", id, err)
				continue
			}
			io.WriteString(term, "echo answer=$((6*7))\n")
			readUntil(m.t, term, "answer=42")
			term.Close()
		}
		if err := m.Remove(background, id, 0); err != nil {
			m.t.Errorf("%s can't be removed: %v", id, err)
		}
	}
	if left, err := m.List(background); err != nil || len(left) > 0 {
		m.t.Errorf("left: %v, %v", left, err)
	}
	m.close()
	m.open(slog.New(slog.DiscardHandler)) // which ends what only containerd has given up
	m.wantNothingLeft()
}

// runPatiently tries again for a while, as the scheduler does: containerd may be
// at work still on what the killed EcoLink asked for.
func (m *machine) runPatiently(w Workload) (o Observation, err error) {
	for range 50 {
		if o, err = m.Run(background, w); err == nil {
			return o, nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return o, err
}

// killVictim lets a victim live for a while after it is ready.
func (m *machine) killVictim(image string, life time.Duration) {
	m.t.Helper()
	text, err := json.Marshal(m.places)
	if err != nil {
		m.t.Fatal(err)
	}
	victim := exec.Command("/proc/self/exe")
	victim.Env = append(os.Environ(), victimVariable+"="+string(text), imageVariable+"="+image)
	victim.Stderr = m.t.Output()
	out, err := victim.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		m.t.Fatal(err)
	}
	var ready [6]byte
	_, err = io.ReadFull(out, ready[:])
	if err == nil {
		time.Sleep(life)
	}
	_ = victim.Process.Kill()
	_ = victim.Wait()
	if err != nil {
		m.t.Fatalf("the victim did not begin: %v", err)
	}
}
