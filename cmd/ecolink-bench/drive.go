package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ecolink/packaging/sample"
)

// Goals of a drive, although it is a file system in a file of another.
const (
	goalSequential = 0.90
	goalRandom     = 0.80
)

// What is measured. The file is larger than what a disk's own memory holds, and
// smaller than the drive.
const (
	driveGB      = 4
	driveGPUs    = 16
	driveFile    = "1536m"
	drivePath    = "/drive"
	driveAwaited = 60 * time.Second
)

// job is one way to use a disk. All go past the memory of the machine (direct
// I/O), else the figures would be the memory's.
type job struct {
	name, pattern, block string
	depth                int // requests under way at once
	goal                 float64
}

var driveJobs = []job{
	{"sequential write", "write", "1m", 8, goalSequential},
	{"sequential read", "read", "1m", 8, goalSequential},
	{"4k random write", "randwrite", "4k", 32, goalRandom},
	{"4k random read", "randread", "4k", 32, goalRandom},
}

// place is where fio runs, and on which file.
type place struct {
	name string
	file string
	fio  func(ctx context.Context, args ...string) ([]byte, error)
}

// measureDrive measures a drive inside a container beside the file system of the
// host that the drive lies on.
func measureDrive(ctx context.Context, opts options) (_ report, err error) {
	fio, err := exec.LookPath("fio")
	if err != nil {
		return report{}, errPeer("fio", "fio", err)
	}
	dir, err := os.MkdirTemp(opts.dir, "ecobench")
	if err != nil {
		return report{}, err
	}
	var clean cleanup
	clean.add(func() error { return os.RemoveAll(dir) })
	defer func() { err = errors.Join(err, clean.run()) }()
	registry, err := sample.Serve(nil)
	if err != nil {
		return report{}, err
	}
	clean.add(registry.Close)
	image, err := fioImage(ctx, registry, fio)
	if err != nil {
		return report{}, err
	}
	if opts.binary == "" {
		opts.binary = filepath.Join(dir, "ecolink")
		build := exec.CommandContext(ctx, "go", "build", "-o", opts.binary, "./cmd/ecolink")
		if out, err := build.CombinedOutput(); err != nil {
			return report{}, fmt.Errorf("build ecolink: %w: %s", err, out)
		}
	}
	// The instance has all GPUs, and with them the whole machine, as the host's fio
	// has. Nothing is written outside of the drive.
	if err := os.Setenv("ECOLINK_SCRATCH_PER_GPU", "64MiB"); err != nil {
		return report{}, err
	}
	ours, err := newEcoLink(ctx, opts, dir, image, &clean)
	if err != nil {
		return report{}, err
	}
	price := exec.CommandContext(ctx, opts.binary, append([]string{"admin", "price", "set", "storage/drive", "0.10"}, ours.place()...)...)
	if _, err := output(price); err != nil {
		return report{}, err
	}
	if err := ours.startWithDrive(ctx, "bench"); err != nil {
		return report{}, err
	}
	clean.add(func() error { return ours.remove(context.WithoutCancel(ctx), "bench") })
	places := []place{
		{name: "drive", file: drivePath + "/fio.bin", fio: func(ctx context.Context, args ...string) ([]byte, error) {
			cmd := exec.CommandContext(ctx, opts.binary, append([]string{"instance", "exec", "bench", "--", fio}, args...)...)
			cmd.Env = append(os.Environ(), "ECOLINK_URL="+ours.url, "ECOLINK_API_KEY="+ours.key)
			return output(cmd)
		}},
		{name: "host", file: filepath.Join(dir, "fio.bin"), fio: func(ctx context.Context, args ...string) ([]byte, error) {
			return output(exec.CommandContext(ctx, fio, args...))
		}},
	}
	return raceDisks(ctx, places, opts)
}

// raceDisks runs every job in every place, in turns, each round beginning with
// another place.
func raceDisks(ctx context.Context, places []place, opts options) (report, error) {
	// Both files are written in full first: a file's first writing is another
	// matter, in which both file systems note what they give out.
	for _, p := range places {
		if _, err := p.run(ctx, job{pattern: "write", block: "1m", depth: 8}); err != nil {
			return report{}, err
		}
	}
	rates := make([][][]float64, len(driveJobs))
	for j := range driveJobs {
		rates[j] = make([][]float64, len(places))
	}
	limit := fmt.Sprintf("--runtime=%d", opts.seconds)
	for round := range opts.rounds {
		for j, job := range driveJobs {
			for n := range places {
				n = (n + round) % len(places)
				rate, err := places[n].run(ctx, job, "--time_based", limit)
				if err != nil {
					return report{}, err
				}
				rates[j][n] = append(rates[j][n], rate)
			}
		}
	}
	var rep report
	for j, job := range driveJobs {
		rep.beside("drive in a container, "+job.name, "MB/s", quantile(rates[j][0], 0.5), more, "the host's file system", quantile(rates[j][1], 0.5), job.goal)
		for n, p := range places {
			rep.noise = append(rep.noise, fmt.Sprintf("noise: %s, %s: %s", p.name, job.name, spread(rates[j][n], "MB/s")))
		}
	}
	return rep, nil
}

// run does a job once and gives its rate in MB/s.
func (p place) run(ctx context.Context, j job, more ...string) (float64, error) {
	raw, err := p.fio(ctx, append([]string{
		"--name=bench", "--filename=" + p.file, "--size=" + driveFile, "--overwrite=1", "--direct=1", "--ioengine=libaio",
		"--rw=" + j.pattern, "--bs=" + j.block, "--iodepth=" + strconv.Itoa(j.depth), "--randrepeat=0", "--norandommap",
		"--output-format=json",
	}, more...)...)
	if err != nil {
		return 0, fmt.Errorf("fio, %s on %s: %w", j.pattern, p.name, err)
	}
	type direction struct {
		Bytes float64 `json:"bw_bytes"` // a second
	}
	var said struct {
		Jobs []struct{ Read, Write direction }
	}
	// fio may say something before.
	if at := bytes.IndexByte(raw, '{'); at >= 0 {
		raw = raw[at:]
	}
	if err := json.Unmarshal(raw, &said); err != nil || len(said.Jobs) != 1 {
		return 0, fmt.Errorf("fio, %s on %s says %.200q: %w", j.pattern, p.name, raw, err)
	}
	return max(said.Jobs[0].Read.Bytes, said.Jobs[0].Write.Bytes) / 1e6, nil
}

// output runs a command; its error quotes what it says.
func output(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %.400s", err, exit.Stderr)
	}
	return out, err
}

// fioImage makes an image with this machine's fio and the libraries that it
// loads, as no registry can be counted on.
func fioImage(ctx context.Context, registry *sample.Registry, fio string) (string, error) {
	said, err := exec.CommandContext(ctx, "ldd", fio).Output()
	if err != nil {
		return "", fmt.Errorf("which libraries fio needs: %w", err)
	}
	paths := []string{fio}
	for lines := bufio.NewScanner(bytes.NewReader(said)); lines.Scan(); {
		for word := range strings.FieldsSeq(lines.Text()) {
			if filepath.IsAbs(word) {
				paths = append(paths, word)
				break
			}
		}
	}
	var files []sample.File
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		files = append(files, sample.File{Path: strings.TrimPrefix(path, "/"), Mode: 0o755, Content: content})
	}
	made, err := sample.Busybox(files...)
	if err != nil {
		return "", err
	}
	return registry.Push("bench/fio:1", made)
}

// startWithDrive launches an instance with a new drive.
func (e *ecolink) startWithDrive(ctx context.Context, name string) error {
	resp, err := e.request(ctx, http.MethodPost, "/v1/drives", map[string]any{"name": name, "size_gb": driveGB})
	if err != nil {
		return err
	}
	var drive struct {
		ID    int64
		State string
	}
	err = json.NewDecoder(resp.Body).Decode(&drive)
	resp.Body.Close()
	for deadline := time.Now().Add(driveAwaited); err == nil && drive.State != "available"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("drive %d is still %s", drive.ID, drive.State)
		}
		resp, err = e.request(ctx, http.MethodGet, fmt.Sprintf("/v1/drives/%d", drive.ID), nil)
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(&drive)
			resp.Body.Close()
		}
	}
	if err != nil {
		return err
	}
	resp, err = e.request(ctx, http.MethodPost, "/v1/gpu-instances", map[string]any{
		"name": name, "gpu_type": "h100", "gpu_count": driveGPUs, "image": e.image, "estimated_duration_hours": 1, "command": keepAlive,
		"drives": []any{map[string]any{"id": drive.ID, "path": drivePath}},
	})
	if err != nil {
		return err
	}
	var made struct{ ID int64 }
	err = json.NewDecoder(resp.Body).Decode(&made)
	resp.Body.Close()
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.numbers[name] = made.ID
	e.mu.Unlock()
	return e.await(name, "running")
}
