package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/packaging/sample"
)

// settleTime lies between two measurements. EcoLink then prepares its next
// networks, which must weigh on nobody's figures.
const settleTime = 2 * time.Second

// together is how many are launched at once.
const together = 10

// Goals of the launch path: network included, no slower than ctr without one,
// and at most half of podman.
const (
	goalCtr    = 1.00
	goalPodman = 0.50
)

// contender brings a container of the same image to run.
type contender interface {
	name() string
	// start returns when the container named id runs; remove when it is gone.
	start(ctx context.Context, id string) error
	remove(ctx context.Context, id string) error
}

// measureLaunch measures the time from asking for a container to its running.
func measureLaunch(ctx context.Context, opts options) (_ report, err error) {
	dir, err := os.MkdirTemp("", "ecobench")
	if err != nil {
		return report{}, err
	}
	var clean cleanup
	clean.add(func() error { return os.RemoveAll(dir) })
	defer func() { err = errors.Join(err, clean.run()) }()
	if err := os.Chmod(dir, 0o711); err != nil { // for root in a user namespace, who is nobody here
		return report{}, err
	}
	// /run is in memory on every machine of today, and so is what all contenders
	// keep there. The mount is in this program's own namespace.
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		return report{}, err
	}
	if err := unix.Mount("tmpfs", run, "tmpfs", 0, ""); err != nil {
		return report{}, fmt.Errorf("mount a tmpfs: %w", err)
	}
	clean.add(func() error { return unix.Unmount(run, unix.MNT_DETACH) })

	registry, err := sample.Serve(nil)
	if err != nil {
		return report{}, err
	}
	clean.add(registry.Close)
	busybox, err := sample.Busybox()
	if err != nil {
		return report{}, err
	}
	image, err := registry.Push("bench/busybox:1", busybox)
	if err != nil {
		return report{}, err
	}
	ours, err := newEcoLink(ctx, opts, dir, image, &clean)
	if err != nil {
		return report{}, err
	}
	contenders := []contender{ours}
	for _, peer := range []func() (contender, error){
		func() (contender, error) { return newRunc(dir, busybox) },
		func() (contender, error) { return newCtr(ctx, ours.containerdSocket(), image) },
		func() (contender, error) { return newPodman(ctx, dir, image, &clean) },
	} {
		c, err := peer()
		if err != nil {
			return report{}, err
		}
		contenders = append(contenders, c)
	}
	return race(ctx, contenders, opts.rounds)
}

// race runs all contenders in turn, each round beginning with another one.
func race(ctx context.Context, contenders []contender, rounds int) (report, error) {
	alone, crowd := make([]timings, len(contenders)), make([]timings, len(contenders))
	number := 0
	next := func() string { number++; return fmt.Sprintf("bench%d", number) }
	for _, c := range contenders { // everything is read from the disk once
		if _, err := launchTogether(ctx, c, []string{next()}); err != nil {
			return report{}, err
		}
	}
	for r := range rounds {
		for n := range contenders {
			n = (n + r) % len(contenders)
			took, err := launchTogether(ctx, contenders[n], []string{next()})
			if err != nil {
				return report{}, err
			}
			alone[n] = append(alone[n], took)
		}
	}
	for r := range max(3, rounds/3) {
		for n := range contenders {
			n = (n + r) % len(contenders)
			ids := make([]string, together)
			for i := range ids {
				ids[i] = next()
			}
			took, err := launchTogether(ctx, contenders[n], ids)
			if err != nil {
				return report{}, err
			}
			crowd[n] = append(crowd[n], took)
		}
	}
	var rep report
	for _, set := range []struct {
		what    string
		samples []timings
	}{{"one at a time", alone}, {"ten at once, all running", crowd}} {
		for n, c := range contenders[1:] {
			goal := map[string]float64{"ctr run -d": goalCtr, "podman run -d": goalPodman}[c.name()]
			rep.compare("launch, "+set.what, set.samples[0].median(), c.name(), set.samples[n+1].median(), goal)
		}
		for n, c := range contenders {
			rep.noise = append(rep.noise, fmt.Sprintf("noise: %s, %s: %s", c.name(), set.what, set.samples[n].spread()))
		}
	}
	return rep, nil
}

// launchTogether starts containers at once, measures until the last of them
// runs, and removes them.
func launchTogether(ctx context.Context, c contender, ids []string) (time.Duration, error) {
	time.Sleep(settleTime)
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	began := time.Now()
	for i, id := range ids {
		wg.Go(func() { errs[i] = c.start(ctx, id) })
	}
	wg.Wait()
	took := time.Since(began)
	for _, id := range ids {
		errs = append(errs, c.remove(ctx, id))
	}
	if err := errors.Join(errs...); err != nil {
		return 0, fmt.Errorf("%s: %w", c.name(), err)
	}
	return took, nil
}

// cleanup undoes what was set up, the last thing first.
type cleanup struct{ steps []func() error }

func (c *cleanup) add(f func() error) { c.steps = append(c.steps, f) }

func (c *cleanup) run() (err error) {
	for n := len(c.steps) - 1; n >= 0; n-- {
		err = errors.Join(err, c.steps[n]())
	}
	return err
}
