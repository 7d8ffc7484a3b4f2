package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml"
	"ecolink/nvml/history"
	"ecolink/nvml/simulated"
	"ecolink/nvml/telemetry"
)

// What is sampled: a full box whose GPUs are all cut as small as they can be.
const (
	telemetryGPUs      = 8
	telemetrySlices    = 7 // of each
	telemetryProcesses = 100
)

// goalTelemetry is of one core, at one sample a second.
const goalTelemetry = 1.0 // percent

const (
	// telemetrySamples are taken one after the other in a round, as ten minutes of
	// sampling, so that the minutes' own records are in them.
	telemetrySamples = 600
	// telemetryLive is how long it samples by the clock.
	telemetryLive = time.Minute
)

// measureTelemetry measures what sampling costs the processor. The driver is the
// simulated one, so the time that NVIDIA's library and the GPUs take is not in it.
func measureTelemetry(ctx context.Context, opts options) (_ report, err error) {
	var clean cleanup
	defer func() { err = errors.Join(err, clean.run()) }()
	dir, err := ledgerDir(opts.dir)
	if err != nil {
		return report{}, err
	}
	clean.add(func() error { return os.RemoveAll(dir) })
	library, err := fullBox()
	if err != nil {
		return report{}, err
	}
	clean.add(library.Close)
	kept, err := history.Open(filepath.Join(dir, "history"), slog.New(slog.DiscardHandler))
	if err != nil {
		return report{}, err
	}
	clean.add(kept.Close)
	sampler := telemetry.NewSampler(library, kept, slog.New(slog.DiscardHandler))

	at := time.Now()
	percents := make([]float64, 0, opts.rounds)
	for range opts.rounds + 1 { // the first makes the files
		spent, err := sampleRun(ctx, sampler, at)
		if err != nil {
			return report{}, err
		}
		at = at.Add(telemetrySamples * time.Second)
		percents = append(percents, 100*spent.Seconds()/telemetrySamples)
	}
	percents = percents[1:]
	live, err := sampleLive(ctx, sampler)
	if err != nil {
		return report{}, err
	}
	var rep report
	what := fmt.Sprintf("sampling %d GPUs x %d slices, %d processes, with history", telemetryGPUs, telemetrySlices, telemetryProcesses)
	rep.limit(what+", simulated driver", "% of a core", quantile(percents, 0.5), goalTelemetry)
	rep.limit(what+", simulated driver, by the clock", "% of a core", 100*live.Seconds()/telemetryLive.Seconds(), goalTelemetry)
	rep.noise = []string{
		"noise: sampling: " + spread(percents, "% of a core"),
		"sampling: what a real driver's calls cost is not in it; the simulated one's answers are.",
	}
	return rep, nil
}

// fullBox is a simulated machine with all slices made and processes on them.
func fullBox() (_ *nvml.Library, err error) {
	layout := simulated.Layout{Type: "h100", Count: telemetryGPUs}
	machine, err := simulated.New(layout)
	if err != nil {
		return nil, err
	}
	process := uint32(0)
	for i := range telemetryGPUs {
		gpu, code := machine.DeviceGetHandleByIndex(i)
		if code != gonvml.SUCCESS {
			return nil, fmt.Errorf("open simulated GPU %d: %w", i, code)
		}
		if err := cutGPU(gpu); err != nil {
			return nil, fmt.Errorf("cut simulated GPU %d: %w", i, err)
		}
		for s := range telemetrySlices {
			slice, code := gpu.GetMigDeviceHandleByIndex(s)
			if code != gonvml.SUCCESS {
				return nil, fmt.Errorf("open slice %d of simulated GPU %d: %w", s, i, code)
			}
			// 100 processes on 56 slices: one on each, and a second while there are more.
			end := uint32((i*telemetrySlices + s + 1) * telemetryProcesses / (telemetryGPUs * telemetrySlices))
			if err := loadSlice(slice, process, end); err != nil {
				return nil, err
			}
			process = end
		}
	}
	return nvml.OpenMachine(machine, layout), nil
}

// cutGPU makes as many of the smallest slices as there are places for.
func cutGPU(gpu gonvml.Device) error {
	if _, code := gpu.SetMigMode(gonvml.DEVICE_MIG_ENABLE); code != gonvml.SUCCESS {
		return code
	}
	profile, code := gpu.GetGpuInstanceProfileInfo(gonvml.GPU_INSTANCE_PROFILE_1_SLICE)
	if code != gonvml.SUCCESS {
		return code
	}
	for range telemetrySlices {
		gi, code := gpu.CreateGpuInstance(&profile)
		if code != gonvml.SUCCESS {
			return code
		}
		whole, code := gi.GetComputeInstanceProfileInfo(gonvml.COMPUTE_INSTANCE_PROFILE_1_SLICE, gonvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED)
		if code != gonvml.SUCCESS {
			return code
		}
		if _, code := gi.CreateComputeInstance(&whole); code != gonvml.SUCCESS {
			return code
		}
	}
	return nil
}

func loadSlice(slice gonvml.Device, first, end uint32) error {
	measured, ok := simulated.TelemetryOf(slice)
	if !ok {
		return fmt.Errorf("a simulated slice of type %T takes no load", slice)
	}
	load := simulated.Load{Seed: uint64(first)}
	for n := first; n < end; n++ {
		load.Processes = append(load.Processes, simulated.Process{PID: 1000 + n, MemoryBytes: 2 << 30, SMPercent: 10})
	}
	measured.SetLoad(load)
	return nil
}

// sampleRun takes samples of successive seconds one after the other, and gives the
// processor time that this process spent.
func sampleRun(ctx context.Context, sampler *telemetry.Sampler, from time.Time) (time.Duration, error) {
	return spentIn(func() error {
		for n := range telemetrySamples {
			if err := ctx.Err(); err != nil {
				return err
			}
			sampler.Take(from.Add(time.Duration(n) * time.Second))
			if err := sampledWhole(sampler); err != nil {
				return err
			}
		}
		return nil
	})
}

func sampleLive(ctx context.Context, sampler *telemetry.Sampler) (time.Duration, error) {
	return spentIn(func() error {
		limited, cancel := context.WithTimeout(ctx, telemetryLive)
		defer cancel()
		sampler.Run(limited)
		return errors.Join(ctx.Err(), sampledWhole(sampler))
	})
}

// sampledWhole makes sure that what was measured is what was to be measured.
func sampledWhole(sampler *telemetry.Sampler) error {
	latest, err := sampler.Latest()
	if err != nil {
		return err
	}
	processes := 0
	for i := range latest.Devices {
		if latest.Devices[i].ParentUUID != "" {
			processes += len(latest.Devices[i].Processes)
		}
	}
	if len(latest.Devices) != telemetryGPUs*(1+telemetrySlices) || processes != telemetryProcesses {
		return fmt.Errorf("a sample has %d devices and %d processes: run it on a machine that is less busy", len(latest.Devices), processes)
	}
	return nil
}

// spentIn is the processor time, of user and kernel, that this process spends in run.
func spentIn(run func() error) (time.Duration, error) {
	before, err := processorTime()
	if err != nil {
		return 0, err
	}
	if err := run(); err != nil {
		return 0, err
	}
	after, err := processorTime()
	return after - before, err
}

func processorTime() (time.Duration, error) {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), nil
}
