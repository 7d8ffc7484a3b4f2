package runtime

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

func TestImageThatNobodyUsesGoesWithItsLayersAndOneInUseStays(t *testing.T) {
	r, f := newRuntime(t, func(c *Config) { c.Images.UnusedFor = time.Millisecond }), newFaulty(t)
	used, unused := f.push("demo/used:1"), f.push("demo/unused:1")
	digest, err := r.Resolve(background, Image{Name: used})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []Image{{Name: used, Digest: digest}, {Name: unused}} {
		if err := r.Pull(background, i, nothing); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(10 * time.Millisecond)
	if gone, err := r.Prune(background, nil, false); err != nil || len(gone) > 0 {
		t.Errorf("what has just been fetched went: %+v, %v", gone, err)
	}
	r.cfg.wantedFor = time.Millisecond
	gone, err := r.Prune(background, []string{digest}, false)
	if err != nil || len(gone) != 1 || gone[0].Names[0] != unused {
		t.Fatalf("%+v, %v", gone, err)
	}
	if left := r.leftovers(t); len(left) != 4 { // manifest, configuration, layer, snapshot
		t.Errorf("left: %v", left)
	}
	if _, err := r.RemoveImage(background, used, []string{digest}); err != ErrImageInUse {
		t.Errorf("got %v", err)
	}
	if gone, err := r.Prune(background, []string{used}, false); err != nil || len(gone) > 0 {
		t.Errorf("one that is in use by its name went: %+v, %v", gone, err)
	}
}

func TestFullDiskTakesTheImagesThatNobodyHasUsedForLongest(t *testing.T) {
	r, f := newRuntime(t, func(c *Config) { c.Images.HighWater = 100 }), newFaulty(t)
	r.cfg.wantedFor = time.Nanosecond
	var names []string
	for n := range 3 {
		names = append(names, f.push(fmt.Sprintf("demo/box:%d", n)))
		if err := r.Pull(background, Image{Name: names[n]}, nothing); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if gone, err := r.Prune(background, nil, false); err != nil || len(gone) > 0 {
		t.Fatalf("the disk is not full: %+v, %v", gone, err)
	}
	r.cfg.Images.HighWater = 1 // it is now, and stays so
	gone, err := r.Prune(background, nil, false)
	if err != nil || len(gone) != 3 || gone[0].Names[0] != names[0] || gone[2].Names[0] != names[2] {
		t.Fatalf("%+v, %v", gone, err)
	}
	r.wantNothingKept(t)
}

// Launches and removals at random: no launch may find its image gone between the
// moment that it was there and the start of its container.
func TestNoLaunchEverFailsForAnImageThatIsBeingRemoved(t *testing.T) {
	r, f := newRuntime(t, func(c *Config) { c.Images.UnusedFor = time.Nanosecond }), newFaulty(t)
	r.cfg.wantedFor = 50 * time.Millisecond
	var names []string
	for n := range 3 {
		names = append(names, f.push(fmt.Sprintf("demo/box:%d", n)))
	}
	var mu sync.Mutex
	live := map[string]int{} // what the scheduler has on record
	var launches, removed atomic.Int32
	stop := time.Now().Add(4 * time.Second)
	var all sync.WaitGroup
	ctx := r.in(background)
	for worker := range 4 {
		all.Go(func() {
			for n := 0; time.Now().Before(stop); n++ {
				i := Image{Name: names[rand.N(len(names))]}
				digest, err := r.Resolve(background, i)
				if err != nil {
					t.Error(err)
					return
				}
				i.Digest = digest
				mu.Lock()
				live[digest]++
				mu.Unlock()
				if err := r.Pull(background, i, nothing); err != nil {
					t.Errorf("pull: %v", err)
					return
				}
				time.Sleep(rand.N(100 * time.Millisecond)) // longer than an image is spared for its own sake
				pin, err := i.recorded()
				if err != nil {
					t.Error(err)
					return
				}
				img, err := r.keep(ctx, pin)
				if err != nil {
					t.Errorf("the image was removed under a launch: %v", err)
					return
				}
				key := fmt.Sprintf("rootfs-%d-%d", worker, n)
				_, err = r.client.SnapshotService(snapshotter).Prepare(ctx, key, img.chain, snapshots.WithLabels(map[string]string{keepLabel: now()}))
				if err != nil {
					t.Errorf("its layers were removed under a launch: %v", err)
					return
				}
				launches.Add(1)
				if err := r.client.SnapshotService(snapshotter).Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
					t.Error(err)
				}
				mu.Lock()
				if live[digest]--; live[digest] == 0 {
					delete(live, digest)
				}
				mu.Unlock()
				time.Sleep(rand.N(200 * time.Millisecond))
			}
		})
	}
	all.Go(func() {
		for time.Now().Before(stop) {
			var inUse []string
			mu.Lock()
			for digest := range live {
				inUse = append(inUse, digest)
			}
			mu.Unlock()
			time.Sleep(rand.N(20 * time.Millisecond)) // a launch may come in between
			gone, err := r.Prune(background, inUse, false)
			if err != nil {
				t.Error(err)
			}
			removed.Add(int32(len(gone)))
		}
	})
	all.Wait()
	t.Logf("%d launches, %d removals", launches.Load(), removed.Load())
	if launches.Load() < 5 || removed.Load() < 2 {
		t.Errorf("%d launches and %d removals prove nothing", launches.Load(), removed.Load())
	}
}
