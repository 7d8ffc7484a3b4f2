package scheduler

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/ledger/registries"
	"ecolink/ledger/secrets"
	"ecolink/ledger/store"
)

func TestInstanceRunsWhatItsImageMeantAtLaunchAlsoAfterARebootThatFindsTheTagMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 2)
		if i.ImageDigest != "sha256:demo/box" {
			t.Fatalf("it has %q on record", i.ImageDigest)
		}
		b.machine.set(func() {
			b.machine.digest = "sha256:moved/"
			b.machine.boot = "boot-2"
			clear(b.machine.found)
		})
		b.restart()
		time.Sleep(time.Minute)
		b.settle()
		b.want(i.ID, Running)
		b.machine.mu.Lock()
		defer b.machine.mu.Unlock()
		for _, p := range b.machine.pulled {
			if p.Digest != "sha256:demo/box" {
				t.Errorf("%+v was pulled", p)
			}
		}
		last := b.machine.workloads[len(b.machine.workloads)-1]
		if len(b.machine.workloads) < 2 || last.ImageDigest != "sha256:demo/box" {
			t.Errorf("%d runs, the last of %q", len(b.machine.workloads), last.ImageDigest)
		}
	})
}

func TestImagesOfInstancesThatRunOrWaitAreInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		running := b.launch("running", 1)
		r := request("waiting", 1)
		r.Image = "demo/other"
		if _, err := b.Launch(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pruneEvery + time.Second)
		b.settle()
		b.machine.mu.Lock()
		if n := len(b.machine.pruned); n != 1 || !slices.Contains(b.machine.pruned[0], "sha256:demo/box") || !slices.Contains(b.machine.pruned[0], "sha256:demo/other") {
			t.Errorf("in use were %v", b.machine.pruned)
		}
		b.machine.mu.Unlock()
		if _, err := b.Terminate(context.Background(), alice, running.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		b.settle()
		inUse, err := b.ImagesInUse()
		if err != nil || len(inUse) != 1 || inUse[0] != "sha256:demo/other" {
			t.Errorf("in use are %v, %v", inUse, err)
		}
	})
}

func TestLogInIsUsedForItsAccountsPullAndOneThatCannotBeReadRefusesTheLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 2)
		defer b.close()
		path := filepath.Join(t.TempDir(), "key")
		open := func() *registries.Book {
			keys, err := secrets.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			return registries.New(keys)
		}
		b.options = []Option{WithRegistries(open())}
		b.restart()
		b.update(func(tx *store.Tx) error {
			_, err := b.logins.Store(tx, registries.Input{Account: alice, By: 1, Host: "docker.io", Username: "ana", Password: "x"}, time.Now())
			return err
		})
		b.launch("trainer", 1) // demo/box is docker.io/demo/box
		b.machine.mu.Lock()
		if p := b.machine.pulled[len(b.machine.pulled)-1]; p.Login == nil || p.Login.Username != "ana" {
			t.Errorf("%+v was pulled", p)
		}
		b.machine.mu.Unlock()

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		b.options = []Option{WithRegistries(open())}
		b.restart()
		_, err := b.Launch(context.Background(), request("other", 1))
		var refused *identity.Error
		if !errors.As(err, &refused) || refused.Field != "image" {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatAccountsCallAnImportedImageIsNotToldToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		b.machine.images = []agent.StoredImage{
			{Digest: "sha256:1", Names: []string{"corp.example/secret:1", "team/box:1"}, Imported: true, ImportedNames: []string{"team/box:1"}},
			{Digest: "sha256:2", Names: []string{"corp.example/secret:2"}},
			{Digest: "sha256:3", Names: []string{"team/apart:1"}, Imported: true, ImportedNames: []string{"team/apart:1"}},
		}
		all, err := b.ImportedImages(background)
		if err != nil || len(all) != 2 || !slices.Equal(all[0].Names, []string{"team/apart:1"}) || !slices.Equal(all[1].Names, []string{"team/box:1"}) {
			t.Errorf("%+v, %v", all, err)
		}
	})
}
