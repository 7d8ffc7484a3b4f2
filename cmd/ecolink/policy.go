package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"ecolink/scheduler"
)

// policyFlags are what goes with each GPU, as the operator sets it.
func policyFlags(f *pflag.FlagSet, p *scheduler.Policy) {
	f.Var(&quantity{&p.MilliCPUs, parseMilli}, "cpus-per-gpu", "CPUs guaranteed with each GPU; auto: an equal part, none: no guarantee")
	f.BoolVar(&p.FixedCPUs, "cpus-fixed", false, "keep instances to their CPUs also while others leave theirs idle")
	f.Var(&quantity{&p.MemoryBytes, parseSize}, "memory-per-gpu", "memory with each GPU, such as 64GiB; auto: an equal part of nine tenths, none: no limit")
	f.Var(&quantity{&p.PIDs, parseCount}, "pids-per-gpu", "processes and threads with each GPU; auto: an equal part of half, none: no limit")
	f.Var(&quantity{&p.ShmBytes, parseSize}, "shm-per-gpu", "size of /dev/shm with each GPU; auto: half of its memory, none: 64 MiB")
	f.Var(&quantity{&p.ScratchBytes, parseSize}, "scratch-per-gpu", "disk outside of drives with each GPU; auto: an equal part of a quarter of what is free, none: no limit, so that an instance can fill the disk")
}

// quantity is a flag that is a number, or auto (0), or none (below 0).
type quantity struct {
	value *int64
	parse func(string) (int64, error)
}

// Set reads it.
func (q *quantity) Set(s string) error {
	switch s = strings.TrimSpace(s); s {
	case "auto", "":
		*q.value = 0
		return nil
	case "none":
		*q.value = -1
		return nil
	}
	n, err := q.parse(s)
	if err == nil && n <= 0 {
		err = fmt.Errorf("%q is not more than nothing: write auto or none, or a larger number", s)
	}
	if err != nil {
		return err
	}
	*q.value = n
	return nil
}

// String writes it as Set reads it.
func (q *quantity) String() string {
	switch {
	case q.value == nil || *q.value == 0:
		return "auto"
	case *q.value < 0:
		return "none"
	default:
		return strconv.FormatInt(*q.value, 10)
	}
}

// Type is what the help shows.
func (q *quantity) Type() string { return "amount" }

func parseMilli(s string) (int64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || n > 1<<20 {
		return 0, fmt.Errorf("%q is not a number of CPUs such as 4 or 0.5", s)
	}
	return int64(math.Round(n * 1000)), nil
}

func parseCount(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

// parseSize reads bytes with a unit: 64GiB, 1.5 TiB, 500MB.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit, ok := map[string]float64{
		"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
		"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	}[strings.ToLower(strings.TrimSpace(s[len(digits):]))]
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || math.IsNaN(n) || n*unit >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size such as 64GiB", s)
	}
	return int64(n * unit), nil
}
