package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// subjects are what can be measured.
var subjects = map[string]func(context.Context, options) (report, error){
	"launch": launch,
}

// options are the flags of every subject.
type options struct {
	rounds int
	binary string // an ecolink to measure; built from here when empty
}

// Exit codes.
const (
	exitMissed      = 1
	exitNotMeasured = 2
)

func main() { os.Exit(run()) }

func run() int {
	var opts options
	asJSON := flag.Bool("json", false, "print one JSON object per row")
	flag.IntVar(&opts.rounds, "rounds", 15, "how often each contender runs")
	flag.StringVar(&opts.binary, "ecolink", "", "the ecolink program to measure; built from source when empty")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: ecolink-bench [flags] SUBJECT\nsubjects: launch")
		flag.PrintDefaults()
	}
	flag.Parse()
	measure := subjects[flag.Arg(0)]
	if measure == nil || flag.NArg() != 1 || opts.rounds < 3 {
		flag.Usage()
		return exitNotMeasured
	}
	if inside, code := ownNamespaces(); !inside {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rep, err := measure(ctx, opts)
	if err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			fmt.Fprintln(os.Stderr, "ecolink-bench:", line)
		}
		return exitNotMeasured
	}
	if *asJSON {
		err = rep.json(os.Stdout)
	} else {
		err = rep.table(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ecolink-bench:", err)
		return exitNotMeasured
	}
	if rep.missed() {
		return exitMissed
	}
	return 0
}

// errPeer says that a contender can't be run here.
func errPeer(name, pkg string, err error) error {
	return fmt.Errorf("%s can't be measured: %w: install the package %s", name, errors.Join(err), pkg)
}
