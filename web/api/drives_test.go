package api

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ecolink/ledger/drives"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// drive creates one and waits until it is available. Its kind is how the path
// spells it.
func (b *box) drive(p party, kind, name string, gb int) (path string) {
	b.t.Helper()
	b.priceStorage()
	r := b.call(p, "POST", "/v1/"+kind, object{"name": name, "size_gb": gb}).want(201)
	path = fmt.Sprintf("/v1/%s/%v", kind, r.at("id"))
	if got := r.header.Get("Location"); got != path {
		b.t.Errorf("it is at %s, not at %s", got, path)
	}
	b.reach(p, path, "available")
	return path
}

// withSnapshot makes a drive that has the snapshot s.
func (b *box) withSnapshot(p party, path, name string) string {
	b.t.Helper()
	path = b.drive(p, strings.TrimPrefix(path, "/v1/"), name, 1)
	b.call(p, "POST", path+"/snapshots", object{"name": "s"}).want(201)
	b.ready(path)
	return path
}

// priceStorage gives a GB of either kind a price of a tenth of a dollar a month.
func (b *box) priceStorage() {
	b.t.Helper()
	b.update(func(tx *store.Tx) error {
		for _, item := range []price.Item{price.Drive, price.SharedFilesystem} {
			if _, priced, err := price.At(tx, item, time.Now()); err != nil || priced {
				return err
			}
			if _, err := price.Set(tx, item, 100_000, time.Time{}, time.Now(), ""); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestADriveIsCreatedAttachedGrownAndDeleted(t *testing.T) {
	b := newBox(t)
	data := b.drive(b.alice, "drives", "data", 10)
	shared := b.drive(b.alice, "shared-filesystems", "models", 20)
	b.call(b.alice, "GET", data, nil).want(200).has("id", 1, "kind", "drive", "name", "data", "region", "local", "mount_path", "", "size_gb", 10, "growing", false, "billed_gb", 10, "notice", "",
		"usage.capacity_bytes", 1e10, "state", "available", "problem", "", "attachments", []any{}, "snapshots", []any{}, "clone_of", nil, "created_by", b.alice.user,
		"history.0.state", "pending", "history.1.state", "available")
	b.call(b.alice, "GET", shared, nil).want(200).has("kind", "shared-filesystem", "mount_path", "/shared")

	body := launchBody("trainer", 1)
	body["drives"] = []object{{"id": 1, "path": "/data"}}
	body["shared_filesystems"] = []object{{"id": 2}}
	b.call(b.alice, "POST", "/v1/gpu-instances", body).want(201).has(
		"drives.0.id", 1, "drives.0.path", "/data", "shared_filesystems.0.id", 2, "shared_filesystems.0.path", "/shared")
	b.reach(b.alice, "/v1/gpu-instances/1", "running")
	b.call(b.alice, "GET", data, nil).has("state", "attached", "attachments.0.instance_id", 1, "attachments.0.path", "/data")
	b.call(b.alice, "DELETE", data, nil).refused(409, "conflict", "")
	body["name"] = "second"
	b.call(b.alice, "POST", "/v1/gpu-instances", body).refused(409, "conflict", "drives[0].id")
	b.call(b.alice, "PATCH", data, object{"size_gb": 30}).want(200).has("size_gb", 30, "billed_gb", 30, "state", "attached")
	b.call(b.alice, "PATCH", data, object{"size_gb": 29}).refused(422, "unprocessable", "size_gb")

	b.call(b.alice, "POST", "/v1/gpu-instances/1/terminate", nil).want(200)
	b.reach(b.alice, data, "available")
	b.call(b.alice, "DELETE", data, nil).want(202).has("state", "deleting")
	b.eventuallyGone(data)
	if all := b.call(b.alice, "GET", "/v1/drives", nil).at("data").([]any); len(all) != 0 {
		t.Errorf("%v", all)
	}
}

// eventuallyGone waits until a path is answered with 404.
func (b *box) eventuallyGone(path string) {
	b.t.Helper()
	for range 1000 {
		if b.call(b.alice, "GET", path, nil).status == 404 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("%s is still there", path)
}

func TestWhoeverWatchesADriveHearsThatItIsDeleted(t *testing.T) {
	b := newBox(t)
	data := b.drive(b.alice, "drives", "data", 10)
	var held atomic.Bool
	held.Store(true)
	b.machine.FailWith(func(op, _ string) (before, after error) {
		if op == "delete" && held.Load() {
			return errors.New("somebody reads its files"), nil
		}
		return nil, nil
	})
	b.call(b.alice, "DELETE", data, nil).want(202)
	var states []any
	for _, d := range b.watch(b.alice, data+"?watch=true") {
		held.Store(false)
		if n := len(states); n == 0 || states[n-1] != d["state"] {
			states = append(states, d["state"])
		}
	}
	if fmt.Sprint(states) != "[deleting deleted]" {
		t.Errorf("seen: %v", states)
	}
}

func TestSnapshotsAreTakenRestoredClonedAndDeleted(t *testing.T) {
	b := newBox(t)
	data := b.drive(b.alice, "drives", "data", 10)
	b.machine.Write("drive-1", "before")
	for range 2 {
		b.call(b.alice, "POST", data+"/snapshots", object{"name": "s"}, "Idempotency-Key", "one").want(201)
	}
	b.ready(data)
	b.call(b.alice, "GET", data, nil).has("snapshots.0.name", "s", "snapshots.0.size_gb", 10, "snapshots.0.used_bytes", 1e9+1, "billed_gb", 12)
	b.call(b.alice, "POST", data+"/snapshots", object{"name": "s"}).refused(409, "conflict", "name")
	b.machine.Write("drive-1", "after")
	b.call(b.alice, "POST", "/v1/drives", object{"name": "copy", "clone_of": object{"id": 1, "snapshot": "s"}}).want(201).has(
		"size_gb", 10, "clone_of.id", 1, "clone_of.snapshot", "s")
	b.reach(b.alice, "/v1/drives/2", "available")
	b.call(b.alice, "POST", data+"/snapshots/none/restore", nil).refused(404, "not_found", "snapshot")
	b.call(b.alice, "POST", data+"/snapshots/s/restore", nil).want(200)
	b.reach(b.alice, data, "available")
	for _, id := range []string{"drive-1", "drive-2"} {
		if v, _ := b.machine.At(id); v.Content != "before" {
			t.Errorf("%s has %q", id, v.Content)
		}
	}
	b.call(b.alice, "DELETE", data+"/snapshots/s", nil).want(202).has("snapshots.0.state", "deleting")
	b.call(b.alice, "DELETE", data+"/snapshots/none", nil).refused(404, "not_found", "snapshot")
}

// ready waits until a drive's snapshots are.
func (b *box) ready(path string) {
	b.t.Helper()
	for _, data := range b.watch(b.alice, path+"?watch=true") {
		if s := data["snapshots"].([]any); len(s) > 0 && s[0].(object)["state"] == string(drives.SnapshotReady) {
			return
		}
	}
	b.t.Fatal("no snapshot is ready")
}

func TestDrivesThatCannotBeAreRefusedAndNothingIsCreated(t *testing.T) {
	b := newBox(t)
	b.call(b.alice, "POST", "/v1/drives", object{"name": "data", "size_gb": 1}).refused(422, "unprocessable", "") // no price
	b.priceStorage()
	for _, c := range []struct {
		path   string
		body   any
		status int
		code   string
		param  string
	}{
		{"/v1/drives", object{"name": "data", "size_gb": 0}, 422, "unprocessable", "size_gb"},
		{"/v1/drives", object{"name": "data", "size_gb": -5}, 422, "unprocessable", "size_gb"},
		{"/v1/drives", object{"name": "data", "size_gb": 1_000_000_000}, 422, "unprocessable", "size_gb"},
		{"/v1/drives", object{"name": "data", "size_gb": 1e30}, 422, "unprocessable", "size_gb"},
		{"/v1/drives", object{"name": "data", "size_gb": 1.5}, 422, "unprocessable", "size_gb"},
		{"/v1/drives", object{"name": "data", "size_gb": 20_000}, 422, "unprocessable", "size_gb"}, // twice the pool
		{"/v1/drives", object{"name": "data"}, 422, "unprocessable", "size_gb"},
		{"/v1/drives", object{"name": "Data", "size_gb": 1}, 422, "unprocessable", "name"},
		{"/v1/drives", object{"size_gb": 1}, 422, "unprocessable", "name"},
		{"/v1/drives", object{"name": "data", "size_gb": 1, "mount_path": "/x"}, 422, "unprocessable", "mount_path"},
		{"/v1/drives", object{"name": "data", "clone_of": object{"id": 99}}, 404, "not_found", ""},
		{"/v1/shared-filesystems", object{"name": "data", "size_gb": 1, "mount_path": "x"}, 422, "unprocessable", "mount_path"},
		{"/v1/shared-filesystems", object{"name": "data", "size_gb": 1, "mount_path": "/" + strings.Repeat("a/", 2050) + "a"}, 422, "unprocessable", "mount_path"},
	} {
		b.call(b.alice, "POST", c.path, c.body).refused(c.status, c.code, c.param)
	}
	b.call(b.bob, "POST", "/v1/drives", object{"name": "data", "size_gb": 1}).refused(402, "insufficient_balance", "")
	for _, path := range []string{"/v1/drives", "/v1/shared-filesystems"} {
		if all := b.call(b.alice, "GET", path, nil).at("data").([]any); len(all) != 0 {
			t.Errorf("%v", all)
		}
	}
	if names := b.machine.Names(); len(names) != 0 {
		t.Errorf("%v", names)
	}
	b.wantBalance(b.alice, "100.00", "0.00")
}

func TestNobodySeesOrUsesAnothersDrive(t *testing.T) {
	b := newBox(t)
	data := b.drive(b.alice, "drives", "data", 10)
	b.call(b.bob, "GET", data, nil).refused(404, "not_found", "")
	b.call(b.bob, "PATCH", data, object{"size_gb": 20}).refused(404, "not_found", "")
	b.call(b.bob, "DELETE", data, nil).refused(404, "not_found", "")
	b.call(b.bob, "POST", data+"/snapshots", object{"name": "s"}).refused(404, "not_found", "")
	b.call(b.bob, "POST", data+"/snapshots/s/restore", nil).refused(404, "not_found", "")
	b.call(b.bob, "POST", "/v1/drives", object{"name": "mine", "clone_of": object{"id": 1}}).refused(404, "not_found", "")
	b.call(b.alice, "GET", "/v1/shared-filesystems/1", nil).refused(404, "not_found", "")
	body := launchBody("trainer", 1)
	body["drives"] = []object{{"id": 1, "path": "/data"}}
	b.call(b.bob, "POST", "/v1/gpu-instances", body).refused(422, "unprocessable", "drives[0].id")
}

func TestACreationWithAKeyIsDoneOnce(t *testing.T) {
	b := newBox(t)
	b.priceStorage()
	key := []string{"Idempotency-Key", "one"}
	for range 2 {
		b.call(b.alice, "POST", "/v1/drives", object{"name": "data", "size_gb": 10}, key...).want(201).has("id", 1)
	}
	b.call(b.alice, "POST", "/v1/drives", object{"name": "data", "size_gb": 11}, key...).refused(409, "conflict", "Idempotency-Key")
}

func TestMountPathsOfALaunchAreRefusedWithTheirField(t *testing.T) {
	b := newBox(t)
	b.drive(b.alice, "drives", "data", 10)
	for path, param := range map[string]string{
		"data": "drives[0].path", "": "drives[0].path", "/": "drives[0].path", "/proc/1": "drives[0].path", "/" + strings.Repeat("a", 5000): "drives[0].path",
	} {
		body := launchBody("trainer", 1)
		body["drives"] = []object{{"id": 1, "path": path}}
		b.call(b.alice, "POST", "/v1/gpu-instances", body).refused(422, "unprocessable", param)
		b.call(b.alice, "POST", "/v1/gpu-instances?dry_run=true", body).refused(422, "unprocessable", param)
	}
	body := launchBody("trainer", 1)
	var nine []object
	for n := range 9 {
		nine = append(nine, object{"id": n + 1, "path": fmt.Sprint("/d", n)})
	}
	body["drives"] = nine
	b.call(b.alice, "POST", "/v1/gpu-instances", body).refused(422, "unprocessable", "drives")
	body["drives"] = []object{{"id": 1}}
	b.call(b.alice, "POST", "/v1/gpu-instances", body).refused(422, "unprocessable", "drives[0].path")
}

func TestDrivesComeInPages(t *testing.T) {
	b := newBox(t)
	b.priceStorage()
	for n := range 5 {
		b.call(b.alice, "POST", "/v1/drives", object{"name": fmt.Sprint("d", n), "size_gb": 1}).want(201)
	}
	b.call(b.alice, "GET", "/v1/drives?limit=2", nil).want(200).has("data.0.name", "d4", "data.1.name", "d3", "next_cursor", "4")
	b.call(b.alice, "GET", "/v1/drives?limit=2&cursor=2", nil).want(200).has("data.0.name", "d0", "next_cursor", nil)
	b.call(b.alice, "GET", "/v1/drives?cursor=x", nil).refused(422, "unprocessable", "cursor")
}
