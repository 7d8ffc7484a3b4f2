package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Trouble is what is wrong with something on the host.
type Trouble string

// The kinds of trouble, and what Repair does about each.
const (
	HalfMade      Trouble = "half made"      // what a crash cut short; is removed
	UnknownVolume Trouble = "unknown volume" // nobody's; is deleted, with its files
	StrayMount    Trouble = "stray mount"    // for a user that is not there; is unmounted
	LostImage     Trouble = "lost image"     // a known volume without its image; can't be mended here
	StrayLoop     Trouble = "stray loop"     // an image's loop device that no mount of ours has; can't be mended here
	Damaged       Trouble = "damaged"        // not an ext4; can't be mended here
	ReadOnly      Trouble = "read-only"      // a mounted volume with an error in it; can't be mended while it is mounted
	Unreserved    Trouble = "unreserved"     // an image with holes; is reserved anew
)

// Finding is something that is not as it should be.
type Finding struct {
	Trouble Trouble
	Volume  string // "" when it is none
	User    string // of a StrayMount
	Path    string // of a file, a mount or a device
	Advice  string // what Repair does, or what a person can do
	// Mendable: Repair can put it right. LosesData: it deletes files for that.
	Mendable, LosesData bool
}

// Known is who should be there.
type Known struct {
	Volumes   []string
	Unsettled []string // may be there, or not: they are being made or deleted
	Users     []string
}

func (k Known) volume(id string) bool {
	return slices.Contains(k.Volumes, id) || slices.Contains(k.Unsettled, id)
}

// holesAllowed is how much of an image may be without its reservation before we
// speak of it: it happens when it is mounted by a kernel whose ext4 can't be told
// to leave its blocks alone, and mends at the next mount.
const holesAllowed = 1 << 20

// Inspect compares what is on the host with what should be there. It changes
// nothing.
func (p *Pool) Inspect(_ context.Context, known Known) ([]Finding, error) {
	halves, err := p.halves()
	if err != nil {
		return nil, fmt.Errorf("inspect volumes: %w", err)
	}
	var found []Finding
	for _, path := range halves {
		found = append(found, Finding{Trouble: HalfMade, Path: path, Mendable: true, Advice: "remove it"})
	}
	mounts, err := p.mounts()
	if err != nil {
		return nil, fmt.Errorf("inspect volumes: %w", err)
	}
	ids, err := p.ids()
	if err != nil {
		return nil, fmt.Errorf("inspect volumes: %w", err)
	}
	mounted := map[int]bool{}
	for _, m := range mounts {
		mounted[m.loop] = true
		if strings.HasPrefix(m.user, ".") && p.isHeld(m.volume) {
			continue // a call is at work
		}
		if m.failed {
			found = append(found, Finding{Trouble: ReadOnly, Volume: m.volume, User: m.user, Path: m.path,
				Advice: "detach it from all: it is checked and mended when it is attached again; the kernel's log (dmesg) says what happened"})
		}
		if !slices.Contains(known.Users, m.user) || !known.volume(m.volume) {
			found = append(found, Finding{Trouble: StrayMount, Volume: m.volume, User: m.user, Path: m.path, Mendable: true,
				Advice: "unmount it; nobody who is known uses it"})
		}
	}
	for _, id := range ids {
		if !known.volume(id) {
			found = append(found, Finding{Trouble: UnknownVolume, Volume: id, Path: p.dir(id), Mendable: true, LosesData: true,
				Advice: "delete it with all its files: no record has it"})
			continue
		}
		f, ok := InspectImage(p.cfg.Dir, id)
		if ok && !(f.Trouble == Unreserved && p.isHeld(id)) { // a trim takes a step's blocks for a moment
			found = append(found, f)
		}
	}
	for _, id := range known.Volumes {
		if !slices.Contains(ids, id) {
			found = append(found, Finding{Trouble: LostImage, Volume: id, Path: p.image(id), Advice: "bring it back from a backup, or delete the volume"})
		}
	}
	stray, err := p.strayLoops(mounted)
	return append(found, stray...), err
}

// isHeld reports whether a call works on a volume now.
func (p *Pool) isHeld(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.volumes[id] != nil
}

// InspectImage looks at the image of one volume in a pool's folder dir. It takes no
// lock and changes nothing, so whoever has the pool, it says the same; only while a
// call works on the volume the image may be without some of its reservation.
func InspectImage(dir, id string) (f Finding, found bool) {
	f = Finding{Volume: id, Path: imageIn(dir, id)}
	image, err := os.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		f.Trouble, f.Advice = LostImage, "bring it back from a backup, or delete the volume"
		return f, true
	}
	if err != nil {
		f.Trouble, f.Advice = Damaged, err.Error()
		return f, true
	}
	defer image.Close()
	if _, err := readSuperblock(image); err != nil {
		f.Trouble, f.Advice = Damaged, fmt.Sprintf("%s: restore a snapshot, or run `e2fsck -f %s` while it is not mounted", err, f.Path)
		return f, true
	}
	size, allocated, err := allocation(f.Path)
	if err == nil && size-allocated > holesAllowed {
		f.Trouble, f.Mendable, f.Advice = Unreserved, true, fmt.Sprintf("reserve the %s that are missing of its space", sizeText(size-allocated))
		return f, true
	}
	return f, false
}

// strayLoops finds loop devices of our images that no mount of ours has: somebody
// else mounted them, or a container's end hangs.
func (p *Pool) strayLoops(mounted map[int]bool) ([]Finding, error) {
	all, err := loops()
	var found []Finding
	for number, file := range all {
		if strings.HasPrefix(file, p.cfg.Dir+"/") && !mounted[number] {
			found = append(found, Finding{Trouble: StrayLoop, Path: loopPath(number),
				Advice: fmt.Sprintf("it holds %s: find who has it mounted (grep loop%d /proc/*/mountinfo) and end that", file, number)})
		}
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Path, b.Path) })
	return found, err
}

// Repair puts right what Inspect has found.
func (p *Pool) Repair(ctx context.Context, f Finding) error {
	switch f.Trouble {
	case HalfMade:
		halves, err := p.halves()
		if err != nil || !slices.Contains(halves, f.Path) {
			return err
		}
		return os.RemoveAll(f.Path)
	case UnknownVolume:
		return p.Delete(ctx, f.Volume)
	case StrayMount:
		defer p.hold(f.Volume)()
		err := unmount(f.Path)
		if errors.Is(err, unix.EBUSY) {
			return &BusyError{Volume: f.Volume, Users: []string{f.User}}
		}
		return err
	case Unreserved:
		return p.reserveAnew(f.Volume)
	default:
		return refuse("%s %s can't be mended by EcoLink: %s", f.Trouble, f.Path, f.Advice)
	}
}

func (p *Pool) reserveAnew(id string) error {
	defer p.hold(id)()
	image, err := os.OpenFile(p.image(id), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("reserve the space of volume %s: %w", id, err)
	}
	return errors.Join(p.fillHoles(image), image.Close())
}
