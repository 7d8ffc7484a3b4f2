package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"ecolink/agent/keeper/initproc"
	"ecolink/agent/keeper/latency"
	"ecolink/agent/keeper/logfile"
	"ecolink/agent/keeper/session"
	"ecolink/agent/keeper/shim"
)

const usage = "usage: ecolink-keeper init [--report FILE] [--] [COMMAND ARG...] | shell PROGRAM [ARG...] | role log|session KEY VALUE..."

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	// The Go runtime sizes itself by the machine's CPUs, and a GPU server has
	// hundreds. One is enough for a loop.
	runtime.GOMAXPROCS(1)
	if len(args) > 0 && args[0] == "init" {
		return initproc.Run(args[1:])
	}
	if len(args) > 0 && args[0] == "shell" {
		err := session.Shell(args[1:])
		fmt.Println(err) // for the host, which waits for another line there
		return fail(exitFailed, err)
	}
	pairs, err := shim.ParseArgs(args)
	if err != nil {
		return fail(exitUsage, fmt.Errorf("%w\n%s", err, usage))
	}
	switch pairs["role"] {
	case logfile.Role:
		err = writeLog(pairs)
	case session.Role:
		// Go lets 4 MiB of garbage collect by default, times this percentage. There
		// is little, and there may be hundreds of these processes.
		debug.SetGCPercent(15)
		latency.AskForShortSlices()
		err = hostTerminal(pairs)
	default:
		return fail(exitUsage, errors.New(usage))
	}
	if err != nil {
		return fail(exitFailed, err)
	}
	return exitOK
}

func writeLog(pairs map[string]string) error {
	config, err := logfile.ParseConfig(pairs)
	if err != nil {
		return err
	}
	handover, err := shim.TakeOver()
	if err != nil {
		return err
	}
	// It ends with its pipes; see logfile.Serve.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	return logfile.Serve(config, handover.Stdout, handover.Stderr, handover.Ready)
}

func hostTerminal(pairs map[string]string) error {
	config, err := session.ParseConfig(pairs)
	if err != nil {
		return err
	}
	handover, err := shim.TakeOver()
	if err != nil {
		return err
	}
	_ = handover.Stderr.Close() // a PTY has one output
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return session.Serve(ctx, config, handover.Stdout, handover.Ready)
}

func fail(code int, err error) int {
	fmt.Fprintln(os.Stderr, "ecolink-keeper:", err)
	return code
}
