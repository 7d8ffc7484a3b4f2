package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"ecolink/agent/volume"
)

// Places says where EcoLink keeps its things, and what it calls them.
type Places struct {
	DataDir, RunDir string
	Namespace       string // of containerd, and of control groups
	Bridge          string
	Reserve         int64 // bytes of the disk that should stay free
}

// Known is who should be there.
type Known struct {
	Workloads []string // of instances that are not over
	Volumes   []string
	Unsettled []string // volumes that may be there, or not: they are being made or deleted
	Running   bool     // whether EcoLink runs: then it may have things prepared
}

// Look lists what is not as it should be. An error says that it could not look.
func Look(p Places, known Known) ([]Finding, error) {
	for _, dir := range []*string{&p.DataDir, &p.RunDir} { // the kernel knows real paths
		if real, err := filepath.EvalSymlinks(*dir); err == nil {
			*dir = real
		}
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("what is mounted: %w", err)
	}
	l := &look{Places: p, known: known, mounts: mounts, owners: map[string][]string{}}
	for _, part := range []func() error{l.readRecords, l.folders, l.lookAtMounts, l.processes, l.groups, l.loops, l.cables, l.pipes, l.volumes, l.uploads} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(l.owners)) {
		l.found = append(l.found, Finding{Kind: Workload, Name: owner, Where: l.owners[owner],
			Why: "no instance that is not over has it", Repair: "end what runs of it and remove the rest, its files outside of drives included"})
	}
	return append(append(l.found, needs(p)...), synchronised()...), nil
}

// look is one look at the host.
type look struct {
	Places
	known   Known
	mounts  []*mountinfo.Info
	records []networkRecord
	owners  map[string][]string // what there is of those who should not be there
	found   []Finding
}

// of notes that something is an owner's, if it should not be there.
func (l *look) of(owner, where string) {
	if !slices.Contains(l.known.Workloads, owner) && !slices.Contains(l.owners[owner], where) {
		l.owners[owner] = append(l.owners[owner], where)
	}
}

// names lists a folder; one that is not there has nothing in it.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// prepared begins the names of what was made ahead and is nobody's yet.
const prepared = "warm-"

// folders finds those that are named after workloads.
func (l *look) folders() error {
	for _, dir := range []string{
		filepath.Join(l.DataDir, "containers"), filepath.Join(l.DataDir, "scratch"), filepath.Join(l.DataDir, "terminals"),
		filepath.Join(l.RunDir, "runtime", "etc"), filepath.Join(l.RunDir, "terminals"),
	} {
		all, err := names(dir)
		if err != nil {
			return err
		}
		for _, name := range all {
			if !strings.HasPrefix(name, prepared) {
				l.of(name, filepath.Join(dir, name))
			}
		}
	}
	return nil
}

// networkRecord is what package network notes of a namespace.
type networkRecord struct {
	ID        string `json:"id"`
	Interface string `json:"interface"`
}

func (l *look) readRecords() error {
	files, err := filepath.Glob(filepath.Join(l.RunDir, "network", "records", "*", "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		id, owner, owned := strings.Cut(filepath.Base(file), "@")
		rec := networkRecord{ID: id}
		if raw, err := os.ReadFile(file); err == nil {
			_ = json.Unmarshal(raw, &rec) // half written: the id is known all the same
		}
		l.records = append(l.records, rec)
		if owner, err := url.PathUnescape(owner); err == nil && owned {
			l.of(owner, "network namespace "+filepath.Join(l.RunDir, "network", "netns", id))
		}
	}
	return nil
}

// lookAtMounts finds what is mounted in our folders for nobody.
func (l *look) lookAtMounts() error {
	tasks := filepath.Join(l.RunDir, "containerd", "state", "io.containerd.runtime.v2.task", l.Namespace)
	for _, m := range l.mounts {
		if rest, ok := strings.CutPrefix(m.Mountpoint, tasks+"/"); ok {
			id, _, _ := strings.Cut(rest, "/")
			l.of(id, "mount "+m.Mountpoint)
			continue
		}
		rest, ok := strings.CutPrefix(m.Mountpoint, l.RunDir+"/")
		parts := strings.Split(rest, "/")
		if ok && parts[0] == "trial" { // which is over before EcoLink answers anybody
			l.stray(Mount, m.Mountpoint, "the trial of user namespaces was killed")
			continue
		}
		if !ok || len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "network" && parts[1] == "netns":
			if !slices.ContainsFunc(l.records, func(r networkRecord) bool { return r.ID == parts[2] }) {
				l.stray(Network, m.Mountpoint, "a network namespace without a record")
			}
		case parts[0] == "network" && parts[1] == "userns":
			if id := strings.TrimSuffix(parts[2], ".layer"); !slices.ContainsFunc(l.records, func(r networkRecord) bool { return r.ID == id }) {
				l.stray(Mount, m.Mountpoint, "a user namespace without a record")
			}
		case parts[0] == "runtime" && parts[1] == "maps":
			// While it starts it is there for a moment; else it is left over.
			l.stray(Mount, m.Mountpoint, "what a container was made from, which it needs no more")
		case parts[0] == "volumes" && strings.HasPrefix(parts[2], "instance-"):
			l.of(parts[2], "mount "+m.Mountpoint)
		case parts[0] == "scratch" && !strings.HasPrefix(parts[1], prepared):
			l.of(parts[1], "mount "+m.Mountpoint)
		case (parts[0] == "volumes" || parts[0] == "scratch") && !l.known.Running:
			l.stray(Mount, m.Mountpoint, "it is mounted for an EcoLink that does not run")
		}
	}
	return nil
}

// stray notes something without an owner, which EcoLink removes when it starts.
func (l *look) stray(kind Kind, where, why string) {
	f := Finding{Kind: kind, Name: where, Where: []string{where}, Why: why, Repair: "remove it, as EcoLink's start does"}
	if l.known.Running {
		f.Repair, f.Advice = "", "restart EcoLink, which removes it; instances go on"
	}
	l.found = append(l.found, f)
}

// processes finds shims and keepers by what they are called with.
func (l *look) processes() error {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, path := range lines {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(raw), "\x00")
		where := fmt.Sprintf("process %s (%s)", filepath.Base(filepath.Dir(path)), filepath.Base(args[0]))
		switch filepath.Base(args[0]) {
		case "containerd-shim-runc-v2":
			if len(args) > 4 && args[1] == "-namespace" && args[2] == l.Namespace && args[3] == "-id" {
				l.of(args[4], where)
			}
		case "ecolink-keeper":
			for _, arg := range args[1:] {
				for _, dir := range []string{filepath.Join(l.DataDir, "containers"), filepath.Join(l.DataDir, "terminals"), filepath.Join(l.RunDir, "terminals")} {
					if rest, ok := strings.CutPrefix(arg, dir+"/"); ok {
						id, _, _ := strings.Cut(rest, "/")
						l.of(id, where)
					}
				}
			}
		}
	}
	return nil
}

// groups finds control groups: of each controller in version 1, one in version 2.
func (l *look) groups() error {
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + l.Namespace + "/*/cgroup.procs", "/sys/fs/cgroup/" + l.Namespace + "/*/cgroup.procs"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, file := range found {
			l.of(filepath.Base(filepath.Dir(file)), "control group "+filepath.Dir(file))
		}
	}
	return nil
}

// loops finds loop devices of files of ours that nothing has mounted. They go by
// themselves with the last mount, so somebody holds them in a place of their own.
func (l *look) loops() error {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // detached meanwhile
		}
		image, device := strings.TrimSpace(string(raw)), strings.Split(file, "/")[3]
		number, err := os.ReadFile(filepath.Join("/sys/block", device, "dev"))
		if err != nil || !strings.HasPrefix(image, l.DataDir+"/") {
			continue
		}
		mounted := slices.ContainsFunc(l.mounts, func(m *mountinfo.Info) bool {
			return fmt.Sprintf("%d:%d", m.Major, m.Minor) == strings.TrimSpace(string(number))
		})
		if !mounted {
			l.found = append(l.found, Finding{Kind: Loop, Name: "/dev/" + device, Where: []string{"/dev/" + device, image},
				Why:    "it is set up and nothing that can be seen has it mounted",
				Advice: fmt.Sprintf("end who holds it: `grep -l %s /proc/*/mountinfo` and `lsof /dev/%s` show them", device, device)})
		}
	}
	return nil
}

// cables finds ports of the bridge without a record, and a bridge without use.
func (l *look) cables() error {
	if l.Bridge == "" {
		return nil
	}
	dir := filepath.Join("/sys/class/net", l.Bridge)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ports, err := names(filepath.Join(dir, "brif"))
	if err != nil {
		return err
	}
	for _, port := range ports {
		if !slices.ContainsFunc(l.records, func(r networkRecord) bool { return r.Interface == port }) {
			l.stray(Network, port, "a cable of "+l.Bridge+" without a record")
		}
	}
	if !l.known.Running && len(l.records) == 0 {
		l.stray(Network, l.Bridge, "a bridge that nothing hangs on")
	}
	return nil
}

// pipes finds those of commands; only a running EcoLink has any.
func (l *look) pipes() error {
	if l.known.Running {
		return nil
	}
	dir := filepath.Join(l.RunDir, "runtime", "fifo")
	all, err := names(dir)
	if err == nil && len(all) > 0 {
		l.stray(Pipes, dir, "pipes of commands that run no more")
	}
	return err
}

// volumes finds images without a record, records without an image, and images that
// are not as they should be. A running EcoLink looks itself: it knows which of them
// are worked on.
func (l *look) volumes() error {
	if l.known.Running {
		return nil
	}
	dir := filepath.Join(l.DataDir, "volumes")
	all, err := names(dir)
	if err != nil {
		return err
	}
	images := slices.Clone(l.known.Volumes)
	for _, name := range all {
		switch {
		case slices.Contains(l.known.Volumes, name):
		case slices.Contains(l.known.Unsettled, name):
			images = append(images, name)
		default:
			l.found = append(l.found, Finding{Kind: Volume, Name: name, Where: []string{filepath.Join(dir, name)},
				Why: "no drive or shared filesystem has it", Repair: "delete it with all its files", LosesFiles: true})
		}
	}
	for _, name := range images {
		if f, found := volume.InspectImage(dir, name); found {
			l.found = append(l.found, OfVolume(f))
		}
	}
	return nil
}

// OfVolume says what a pool of volumes has found in the doctor's words.
func OfVolume(f volume.Finding) Finding {
	out := Finding{Kind: Volume, Name: strings.TrimSpace(f.Volume + " " + f.User), Where: []string{f.Path}, Why: string(f.Trouble), LosesFiles: f.LosesData}
	if out.Name == "" {
		out.Name = f.Path
	}
	if f.Mendable {
		out.Repair = f.Advice
	} else {
		out.Advice = f.Advice
	}
	return out
}
