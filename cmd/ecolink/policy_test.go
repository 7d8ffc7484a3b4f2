package main

import (
	"testing"

	"github.com/spf13/pflag"

	"ecolink/scheduler"
)

func TestPolicyFlagsTakeAmountsAutoAndNone(t *testing.T) {
	var p scheduler.Policy
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	policyFlags(f, &p)
	args := []string{"--cpus-per-gpu=4.5", "--memory-per-gpu=64GiB", "--pids-per-gpu=none", "--shm-per-gpu=auto", "--scratch-per-gpu=1.5 TB", "--cpus-fixed"}
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	want := scheduler.Policy{MilliCPUs: 4500, MemoryBytes: 64 << 30, PIDs: -1, ScratchBytes: 1_500_000_000_000, FixedCPUs: true}
	if p != want {
		t.Fatalf("%+v, want %+v", p, want)
	}
	for _, bad := range []string{"--cpus-per-gpu=0", "--cpus-per-gpu=-1", "--cpus-per-gpu=four", "--memory-per-gpu=64 elephants",
		"--memory-per-gpu=NaN", "--memory-per-gpu=9e99GiB", "--pids-per-gpu=1.5", "--scratch-per-gpu=GiB"} {
		if err := f.Parse([]string{bad}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
