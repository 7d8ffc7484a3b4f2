package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// accounts is how many the charges are spread over; hotAccount is the one that
// takes them all otherwise. They are numbered from 1, in every contender.
const (
	accounts   = 10_000
	hotAccount = 1
)

// What a charge is, and what every account has to begin with: enough for any run.
const (
	chargeMicroUSD = 125
	creditMicroUSD = 1_000_000_000_000
)

// Goals of the ledger's rate: one caller loses next to nothing to what must be
// two flushes of a transaction in one file, many share them.
const (
	goalDisk     = 0.9 // of half the disk's fdatasync rate, at 1 caller
	goalPostgres = 3   // at 64 callers
	goalHot      = 15  // at 64 callers on one account
	goalBolt     = 40  // at 512 callers, of one at a time
)

// restTime lies between two measurements, for what the last one left behind.
const restTime = time.Second

// measureLedger measures the rate of durable charges, what a lease spares a
// request, and then a large journal.
func measureLedger(ctx context.Context, opts options) (_ report, err error) {
	dir, err := ledgerDir(opts.dir)
	if err != nil {
		return report{}, err
	}
	var clean cleanup
	clean.add(func() error { return os.RemoveAll(dir) })
	defer func() { err = errors.Join(err, clean.run()) }()

	var rep report
	if err := measureRates(ctx, opts, dir, &rep); err != nil {
		return rep, err
	}
	if err := measureLeases(ctx, opts, dir, &rep); err != nil {
		return rep, err
	}
	return rep, measureRows(ctx, opts, dir, &rep)
}

// ledgerDir makes the folder that all contenders keep their files in, so that
// they are on one disk.
func ledgerDir(parent string) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(parent, &fs); err != nil {
		return "", fmt.Errorf("%s: %w: name a folder with -dir", parent, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return "", fmt.Errorf("%s is in memory: name a folder on a disk with -dir", parent)
	}
	dir, err := os.MkdirTemp(parent, "ecobench")
	if err != nil {
		return "", fmt.Errorf("%w: name another folder with -dir", err)
	}
	// PostgreSQL's own user goes through it to its files.
	return dir, os.Chmod(dir, 0o711)
}

// measureRates runs all contenders' rates in turn.
func measureRates(ctx context.Context, opts options, dir string, rep *report) (err error) {
	var clean cleanup
	defer func() { err = errors.Join(err, clean.run()) }()
	disk, err := newDisk(filepath.Join(dir, "disk"), &clean)
	if err != nil {
		return err
	}
	plain, err := newPlainBolt(filepath.Join(dir, "plain"), &clean)
	if err != nil {
		return err
	}
	postgres, err := newPostgres(ctx, filepath.Join(dir, "postgres"), &clean)
	if err != nil {
		return err
	}
	ours, err := newBooks(ctx, filepath.Join(dir, "ours"), accounts, time.Now())
	if err != nil {
		return err
	}
	clean.add(ours.close)

	all := raceOrder(ours, disk, plain, postgres)
	taken, err := raceRates(ctx, all, opts, dir)
	if err != nil {
		return err
	}
	if err := ours.reopen(); err != nil {
		return err
	}
	if err := ours.verify(); err != nil {
		return err
	}
	reportRates(rep, taken)
	reportLatencies(rep, taken)
	for _, c := range all {
		rep.noise = append(rep.noise, fmt.Sprintf("noise: %s, %s: %s", c.who.name(), c.load, taken.spread(c)))
	}
	return nil
}

// raceOrder puts each of ours beside what it is compared with, so that a change
// in the machine's mood meets both.
func raceOrder(ours, disk, plain, postgres payer) []cell {
	var (
		spread = func(who payer, callers int) cell { return cell{who, load{callers: callers}} }
		hot    = func(who payer, callers int) cell { return cell{who, load{callers: callers, hot: true}} }
	)
	return []cell{
		spread(disk, 1), spread(ours, 1), spread(postgres, 1), hot(ours, 1), hot(postgres, 1),
		spread(ours, 16), hot(ours, 16),
		spread(ours, 64), spread(postgres, 64), hot(ours, 64), hot(postgres, 64),
		spread(plain, 1), spread(ours, 512), hot(ours, 512),
		spread(ours, 2048), hot(ours, 2048),
	}
}

// raceRates runs every cell once to warm up, and then round by round, each
// beginning with another one.
func raceRates(ctx context.Context, all []cell, opts options, dir string) (rates, error) {
	taken := rates{}
	for r := range opts.rounds + 1 {
		during := time.Duration(opts.seconds) * time.Second
		if r == 0 {
			during = time.Second
		}
		for n := range all {
			c := all[(n+r)%len(all)]
			if err := rest(ctx, dir); err != nil {
				return nil, err
			}
			got, err := c.who.pay(ctx, c.load, during)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", c.who.name(), c.load, err)
			}
			if r > 0 {
				taken.add(c, got)
			}
		}
	}
	return taken, nil
}

// rest writes out what others left in memory for later, so that each contender
// pays for its own writing only.
func rest(ctx context.Context, dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(restTime):
		return nil
	}
}
