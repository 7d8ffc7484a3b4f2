package network

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// beVictim is another process that acquires and releases as fast as it can
// until the test kills it. Its standard output lists owners whose Acquire has
// returned (+) and whose Release has begun (-).
func beVictim(config string) {
	var cfg Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		panic(err)
	}
	ctx := context.Background()
	n, err := New(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	for worker := range 3 {
		go func() {
			for round := 0; ; round++ {
				owner := fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, round)
				if _, err := n.Acquire(ctx, owner); err != nil {
					panic(err)
				}
				fmt.Println("+" + owner)
				if round%3 != 0 {
					fmt.Println("-" + owner)
					if err := n.Release(ctx, owner); err != nil {
						panic(err)
					}
				}
			}
		}()
	}
	select {}
}

// TestKillAtAnyMomentLosesAndLeaksNothing kills the process again and again
// and then compares everything that there is: whoever was told that it owns a
// namespace has it, and every lease, mount and port belongs to a record.
func TestKillAtAnyMomentLosesAndLeaksNothing(t *testing.T) {
	cfg := newConfig(t)
	cfg.Warm = 2
	config, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	must := map[string]bool{} // Acquire has returned
	may := map[string]bool{}  // Release has begun
	const deaths, lifetime = 6, 250 * time.Millisecond
	for range deaths {
		victim := exec.Command("/proc/self/exe")
		victim.Env = append(os.Environ(), victimVariable+"="+string(config))
		victim.Stderr = t.Output()
		stdout, err := victim.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		told := make(chan string)
		go func() {
			text, _ := io.ReadAll(stdout)
			told <- string(text)
		}()
		time.Sleep(rand.N(lifetime)) // New itself is in it
		if err := victim.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(<-told) {
			owner := strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(owner, "+"):
				must[owner[1:]] = true
			case strings.HasPrefix(owner, "-"):
				delete(must, owner[1:])
				may[owner[1:]] = true
			}
		}
		_ = victim.Wait()
	}
	n := open(t, cfg)
	n.stop() // the pool shall not change under the comparison
	n.loops.Wait()
	t.Logf("%d owners after %d deaths", len(n.Owners()), deaths)
	for owner := range must {
		ns, ok := n.Lookup(owner)
		if !ok {
			t.Errorf("%s lost its namespace", owner)
		} else if err := ping(t, ns.Path, ns.Gateway); err != nil {
			t.Errorf("%s: ping: %v", owner, err)
		}
	}
	all, err := n.records.load()
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	ports, sources := n.filter.sets(n.filter.bridgeTable())
	_ = sources
	for what, count := range map[string]int{
		"records":   len(n.Owners()) + len(n.warm),
		"leases":    len(strings.Fields(leases(t, n))),
		"mounts":    strings.Count(string(mounts), cfg.RunDir+"/netns/"),
		"ports":     strings.Count(output(t, "ip", "-o", "link", "show", "master", cfg.Bridge), "\n"),
		"filtered":  strings.Count(output(t, "nft", "list", "set", "bridge", cfg.Name, ports.Name), `"`) / 2,
		"filtered2": len(n.filter.snapshot()),
	} {
		if count != len(all) {
			t.Errorf("%d %s, %d records", count, what, len(all))
		}
	}
}
