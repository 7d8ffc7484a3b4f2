package volume

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// victimVariable makes this program the victim of the crash test.
const victimVariable = "ECOLINK_TEST_VOLUME_VICTIM"

// beVictim is an EcoLink that does everything to volumes as fast as it can until
// it is killed. It prints each number that it has synced in a volume.
func beVictim(where string) {
	err := func() error {
		var cfg Config
		if err := json.Unmarshal([]byte(where), &cfg); err != nil {
			return err
		}
		p, err := Open(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		fmt.Println("ready")
		for n := range 3 {
			go func() {
				for {
					if err := mistreat(p, n); err != nil {
						fmt.Fprintln(os.Stderr, "victim:", err)
						os.Exit(1)
					}
				}
			}()
		}
		return count(p)
	}()
	fmt.Fprintln(os.Stderr, "victim:", err)
	os.Exit(1)
}

// count writes numbers to the volume "kept", which goes through snapshots.
func count(p *Pool) error {
	path, err := p.Mount(background, "kept", "instance-1")
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		f, err := os.OpenFile(filepath.Join(path, "count.new"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(f, n)
		if err = errors.Join(err, f.Sync(), f.Close(), os.Rename(f.Name(), filepath.Join(path, "count")), syncDir(path)); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// mistreat does one thing at random. What can't be done now is no failure.
func mistreat(p *Pool, n int) error {
	id, user, snapshot := fmt.Sprint("drive-", n), fmt.Sprint("instance-", n), fmt.Sprint("s", rand.IntN(2))
	var err error
	switch rand.IntN(10) {
	case 0:
		err = p.Create(background, id, 32*mib)
	case 1:
		err = p.Grow(background, id, (32+8*rand.Int64N(4))*mib)
	case 2:
		err = p.Delete(background, id)
	case 3, 4:
		err = p.Snapshot(background, id, snapshot)
	case 5:
		err = p.DeleteSnapshot(background, id, snapshot)
	case 6:
		err = p.Clone(background, fmt.Sprint("drive-", rand.IntN(3)), "", id)
	case 7:
		err = p.Restore(background, id, snapshot)
	case 8:
		_, err = p.Mount(background, id, user)
	case 9:
		err = p.Unmount(background, id, user)
	}
	if rand.IntN(20) == 0 {
		err = errors.Join(err, p.Snapshot(background, "kept", snapshot), p.DeleteSnapshot(background, "kept", snapshot))
	}
	return unlessExpected(err)
}

func unlessExpected(err error) error {
	var permanent interface{ Permanent() bool } // too small, too full
	var busy *BusyError
	var later *GrowLaterError
	var corrupt *CorruptError
	switch {
	case errors.As(err, &corrupt):
		return err
	case errors.Is(err, ErrNotFound), errors.As(err, &busy), errors.As(err, &later), errors.As(err, &permanent):
		return nil
	}
	return err
}

// EcoLink may be killed at any moment. The next one finds volumes that are whole,
// mounts that it knows, and nothing else; what was synced is there.
func TestKillAtAnyMomentLeavesNothingHalfAndLosesNothingSynced(t *testing.T) {
	w := newWorld(t, 700)
	must(t, w.Create(background, "kept", 32*mib))
	const deaths, lifetime = 20, 400 * time.Millisecond
	synced, halves := -1, 0
	for n := range deaths {
		must(t, w.Pool.Close())
		last := w.killVictim(rand.N(lifetime))
		synced = last
		entries, err := os.ReadDir(w.cfg.Dir)
		must(t, err)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), newPrefix) || strings.HasPrefix(e.Name(), gonePrefix) {
				halves++
			}
		}
		w.open()
		w.checkAll(synced)
		if n%3 == 2 {
			w.reboot()
			w.checkAll(synced)
		}
	}
	t.Logf("%d deaths, %d left something half made", deaths, halves)
	w.endAll()
}

// checkAll wants every volume whole and in order.
func (w *world) checkAll(synced int) {
	w.t.Helper()
	list, err := w.List()
	must(w.t, err)
	known := Known{Users: []string{"instance-0", "instance-1", "instance-2"}}
	for _, v := range list {
		known.Volumes = append(known.Volumes, v.ID)
	}
	found, err := w.Inspect(background, known)
	if err != nil || len(found) > 0 {
		w.t.Fatalf("%+v, %v", found, err)
	}
	for _, v := range list {
		path := w.mustMount(v.ID, "instance-1")
		must(w.t, os.WriteFile(filepath.Join(path, "probe"), []byte("x"), 0o600))
		if v.ID == "kept" {
			text, err := os.ReadFile(filepath.Join(path, "count"))
			got, parseErr := strconv.Atoi(string(text))
			if synced >= 0 && (err != nil || parseErr != nil || got < synced) {
				w.t.Fatalf("%d was synced, %q is there: %v", synced, text, err)
			}
		}
		if rand.IntN(2) == 0 {
			w.mustUnmount(v.ID, "instance-1")
		}
		// A growth that was cut short goes on with the first mount.
		u, err := w.Usage(background, v.ID)
		if err != nil || len(v.Users) == 0 && u.Bytes-u.CapacityBytes > 16*mib {
			w.t.Errorf("%s: %+v, %v", v.ID, u, err)
		}
	}
}

// endAll ends every use and checks every file system in full.
func (w *world) endAll() {
	w.t.Helper()
	users, err := w.Users()
	must(w.t, err)
	for user, volumes := range users {
		for _, v := range volumes {
			w.mustUnmount(v, user)
		}
	}
	list, err := w.List()
	must(w.t, err)
	for _, v := range list {
		command(w.t, "e2fsck", "-fn", w.image(v.ID))
		must(w.t, w.Delete(background, v.ID))
	}
	w.wantNothingMounted()
	if s, err := w.Space(); err != nil || s.PromisedBytes != 0 {
		w.t.Errorf("%+v, %v", s, err)
	}
}

// killVictim lets a victim live for a while after it is ready, and gives the last
// number that it says it has synced; -1 for none.
func (w *world) killVictim(life time.Duration) int {
	w.t.Helper()
	text, err := json.Marshal(w.cfg)
	must(w.t, err)
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	victim := exec.CommandContext(ctx, "/proc/self/exe")
	victim.Env = append(os.Environ(), victimVariable+"="+string(text))
	victim.Stderr = w.t.Output()
	out, err := victim.StdoutPipe()
	must(w.t, err)
	must(w.t, victim.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		w.t.Errorf("the victim says %q", lines.Text())
	}
	time.AfterFunc(life, cancel)
	last := -1
	for lines.Scan() {
		if n, err := strconv.Atoi(lines.Text()); err == nil {
			last = n
		}
	}
	if err := victim.Wait(); ctx.Err() == nil {
		w.t.Errorf("the victim ended by itself: %v", err)
	}
	return last
}
