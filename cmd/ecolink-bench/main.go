package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

// subject is something that can be measured.
type subject struct {
	measure func(context.Context, options) (report, error)
	rounds  int // unless the flag says otherwise
	// containers: it needs root, and runs in namespaces of its own.
	containers bool
}

var subjects = map[string]subject{
	"launch":    {measure: measureLaunch, rounds: 15, containers: true},
	"drive":     {measure: measureDrive, rounds: 9, containers: true},
	"ledger":    {measure: measureLedger, rounds: 3},
	"scheduler": {measure: measureScheduler, rounds: 10},
	"telemetry": {measure: measureTelemetry, rounds: 5},
	"terminal":  {measure: measureTerminal, rounds: 5, containers: true},
}

// options are the flags of every subject.
type options struct {
	rounds  int
	binary  string // an ecolink to measure; built from here when empty
	dir     string // a folder on the disk to measure
	seconds int
	rows    int
	trace   string // the folder of the openb trace
}

const (
	minRounds = 3      // fewer have no spread
	minRows   = 40_000 // fewer leave the busy account without full pages
)

// Exit codes.
const (
	exitMissed      = 1
	exitNotMeasured = 2
)

func main() { os.Exit(run()) }

func run() int {
	if said := os.Getenv(floodVariable); said != "" {
		return tell(report{}, floodHere(said), false)
	}
	var opts options
	asJSON := flag.Bool("json", false, "print one JSON object per row")
	flag.IntVar(&opts.rounds, "rounds", 0, "how often each contender runs (15 for launch, 3 for ledger, 9 for drive, 10 for scheduler, 5 for telemetry and terminal)")
	flag.StringVar(&opts.binary, "ecolink", "", "launch: the ecolink program to measure; built from source when empty")
	flag.StringVar(&opts.dir, "dir", "/var/tmp", "ledger, drive and telemetry: a folder on the disk to measure")
	flag.IntVar(&opts.seconds, "seconds", 2, "ledger and drive: how long each contender runs in a round")
	flag.StringVar(&opts.trace, "trace", "../shared/openb", "scheduler: the folder of the openb trace")
	flag.IntVar(&opts.rows, "rows", 10_000_000, "ledger: how many rows the large journal has")
	flag.Usage = func() { printUsage(flag.CommandLine.Output()) }
	flag.Parse()
	chosen, known := subjects[flag.Arg(0)]
	if opts.rounds == 0 {
		opts.rounds = chosen.rounds
	}
	if !known || flag.NArg() != 1 || opts.rounds < minRounds || opts.seconds < 1 || opts.rows < minRows {
		flag.Usage()
		return exitNotMeasured
	}
	if chosen.containers {
		if inside, code := ownNamespaces(); !inside {
			return code
		}
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // as `ecolink serve` has it
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rep, err := chosen.measure(ctx, opts)
	return tell(rep, err, *asJSON)
}

func printUsage(w io.Writer) {
	names := make([]string, 0, len(subjects))
	for name := range subjects {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(w, "usage: ecolink-bench [flags] SUBJECT\nsubjects: %s\n", strings.Join(names, ", "))
	fmt.Fprintf(w, "-rounds is %d at least, -seconds 1, -rows %d.\n", minRounds, minRows)
	flag.PrintDefaults()
}

// tell prints what was measured, what went wrong, and gives the exit code.
func tell(rep report, measuring error, asJSON bool) int {
	printed := rep.table
	if asJSON {
		printed = rep.json
	}
	var err error
	if len(rep.rows) > 0 {
		err = printed(os.Stdout)
	}
	if err = errors.Join(measuring, err); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(os.Stderr, "ecolink-bench:", strings.TrimRight(line, "\n"))
		}
		return exitNotMeasured
	}
	if rep.missed() {
		return exitMissed
	}
	return 0
}

// errPeer says that a contender can't be run here.
func errPeer(name, pkg string, err error) error {
	return fmt.Errorf("%s can't be measured: %w: install the package %s", name, err, pkg)
}
