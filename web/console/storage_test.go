package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"

	"ecolink/ledger/drives"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
	"ecolink/scheduler"
)

// storagePrices lets storage be sold in the world.
func (w *world) storagePrices() {
	w.update(func(tx *store.Tx) error {
		for _, item := range []price.Item{price.Drive, price.SharedFilesystem} {
			if _, err := price.Set(tx, item, usd("0.10"), time.Time{}, time.Now(), ""); err != nil {
				return err
			}
		}
		return nil
	})
}

// untilDrive waits until a drive of Acme is as it should be.
func (w *world) untilDrive(id scheduler.DriveID, so func(drives.Drive) bool) drives.Drive {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		d, err := w.sched.Drive(w.acme.ID, "", id)
		if err != nil {
			w.t.Fatal(err)
		}
		if so(d) {
			return d
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("it did not come to that: %+v", d)
		}
	}
}

func available(d drives.Drive) bool { return d.State == drives.Available && d.MadeGB == d.GB }

// makeDrive makes a drive by the form.
func (w *world) makeDrive(b *browser, kind drives.Kind, name, gb string) drives.Drive {
	w.t.Helper()
	a := b.submit("/storage/new", "/storage/new", url.Values{"kind": {string(kind)}, "name": {name}, "size_gb": {gb}})
	a.want(http.StatusSeeOther)
	var id scheduler.DriveID
	if _, err := fmt.Sscanf(a.header.Get("Location"), "/storage/%d", &id); err != nil {
		w.t.Fatal(err, a.header)
	}
	return w.untilDrive(id, available)
}

// driveWithSnapshot makes a drive of 1 GB with the snapshot first.
func (w *world) driveWithSnapshot(name string) drives.Drive {
	w.t.Helper()
	d, err := w.sched.CreateDrive(w.t.Context(), scheduler.DriveRequest{Account: w.acme.ID, User: w.ana.ID, Kind: drives.CloudDrive, Name: name, GB: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.untilDrive(d.ID, available)
	if _, err := w.sched.SnapshotDrive(w.t.Context(), w.acme.ID, d.Kind, d.ID, "first", ""); err != nil {
		w.t.Fatal(err)
	}
	return w.untilDrive(d.ID, func(d drives.Drive) bool {
		return len(d.Snapshots) == 1 && d.Snapshots[0].State == drives.SnapshotReady
	})
}

func storageWorld(t *testing.T) (*world, *browser) {
	t.Helper()
	w := newWorld(t, 2).people()
	w.storagePrices()
	return w, w.as("ana@example.org")
}

func TestStorageIsMadeGrownAndDeletedByItsForms(t *testing.T) {
	w, b := storageWorld(t)
	b.get("/storage").want(http.StatusOK, "No storage yet")
	b.get("/storage/quote?kind=drive&size_gb=200").want(http.StatusOK, "$20.00", "per GB and month")
	d := w.makeDrive(b, drives.CloudDrive, "datasets", "200")
	page := drivePath(d)
	b.get("/storage").want(http.StatusOK, "datasets", "200 GB", "$20.00", "available")
	b.get(page).want(http.StatusOK, "Drive: one instance at a time.", `id="history"`).without("It is in use")
	b.get(page+"/grow").want(http.StatusOK, "else once all have detached it and it is attached again")

	b.submit(page+"/grow", page+"/grow", url.Values{"size_gb": {"100"}}).want(http.StatusUnprocessableEntity, "can&#39;t be made smaller")
	b.submit(page+"/grow", page+"/grow", url.Values{"size_gb": {"300"}}).wantRedirect(page + "?note=growing")
	w.untilDrive(d.ID, func(d drives.Drive) bool { return d.MadeGB == 300 })
	b.get(page+"?note=growing").want(http.StatusOK, "300 GB", "It is being grown")

	b.submit(page+"/delete", page+"/delete", url.Values{"name": {"dataset"}}).want(http.StatusUnprocessableEntity, "not its name")
	if got := w.untilDrive(d.ID, available); got.GB != 300 {
		t.Fatalf("%+v", got)
	}
	b.submit(page+"/delete", page+"/delete", url.Values{"name": {"datasets"}}).wantRedirect("/storage?note=deleted")
	for deadline := time.Now().Add(patience); b.get(page).status != http.StatusNotFound; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is still there")
		}
	}
}

func TestSnapshotsAreTakenRestoredClonedAndDeleted(t *testing.T) {
	w, b := storageWorld(t)
	d := w.makeDrive(b, drives.CloudDrive, "work", "10")
	page := drivePath(d)
	b.submit(page+"/snapshot", page+"/snapshot", url.Values{"name": {"before"}}).wantRedirect(page + "?note=snapshot")
	w.untilDrive(d.ID, func(d drives.Drive) bool {
		return len(d.Snapshots) == 1 && d.Snapshots[0].State == drives.SnapshotReady
	})
	b.get(page).want(http.StatusOK, "Snapshots", "before")
	snapshot := page + "/snapshots/before"
	b.submit(snapshot+"/restore", snapshot+"/restore", nil).wantRedirect(page + "?note=restoring")
	w.untilDrive(d.ID, available)
	a := b.submit(snapshot+"/clone", snapshot+"/clone", url.Values{"name": {"work-copy"}}).want(http.StatusSeeOther)
	b.get(a.header.Get("Location")).want(http.StatusOK, "work-copy", "the snapshot before of number 1")
	w.untilDrive(d.ID+1, available)
	b.submit(snapshot+"/delete", snapshot+"/delete", nil).wantRedirect(page + "?note=snapshot-deleted")
	w.untilDrive(d.ID, func(d drives.Drive) bool { return len(d.Snapshots) == 0 })
}

func TestStorageFormKeepsWhatWasTypedAndSaysWhatIsWrong(t *testing.T) {
	w, b := storageWorld(t)
	for _, wrong := range []struct{ field, value, says string }{
		{"name", "My Drive", "lower-case"},
		{"size_gb", "0", "1 at least"},
		{"size_gb", "a lot", "whole number"},
		{"size_gb", "1000000000", "ask for 1 to"},
	} {
		form := url.Values{"kind": {"drive"}, "name": {"data"}, "size_gb": {"10"}}
		form.Set(wrong.field, wrong.value)
		b.submit("/storage/new", "/storage/new", form).want(http.StatusUnprocessableEntity, wrong.says, `id="`+wrong.field+`-error"`, `value="`+wrong.value+`"`)
	}
	poor := w.as("eve@example.org")
	poor.submit("/storage/new", "/storage/new", url.Values{"kind": {"drive"}, "name": {"data"}, "size_gb": {"10"}}).want(http.StatusPaymentRequired)
	poor.get("/storage").want(http.StatusOK, "No storage yet")
}

func TestLaunchFormMountsStorage(t *testing.T) {
	w, b := storageWorld(t)
	d := w.makeDrive(b, drives.CloudDrive, "datasets", "10")
	f := w.makeDrive(b, drives.SharedFilesystem, "team", "10")
	b.get("/instances/new").want(http.StatusOK, "datasets", `value="/workspace/datasets"`, "team", `value="/shared"`)
	form := url.Values{
		"name": {"trainer"}, "gpu_type": {"h100"}, "gpu_count": {"1"}, "image": {"ubuntu:24.04"}, "estimated_duration_hours": {"2"},
		mountField(d.ID): {"1"}, pathField(d.ID): {"/proc/self"}, mountField(f.ID): {"1"}, pathField(f.ID): {"/shared"},
	}
	b.submit("/instances/new", "/instances/new", form).want(http.StatusUnprocessableEntity, `id="drives-error"`, `value="/proc/self"`, "checked")
	form.Set(pathField(d.ID), "/data")
	b.submit("/instances/new", "/instances/new", form).wantRedirect("/instances/1")
	w.until(1, scheduler.Running)
	b.get("/instances/1").want(http.StatusOK, "datasets", "/data", "team", "/shared")
	b.get(drivePath(d)).want(http.StatusOK, "attached", `href="/instances/1"`, "trainer", "It is in use: delete it once nobody uses it.").without(drivePath(d) + "/delete")
	b.get("/instances/new").want(http.StatusOK, "in use")
	b.submit(drivePath(f)+"/delete", drivePath(f)+"/delete", url.Values{"name": {"team"}}).want(http.StatusConflict, "attached to")
}

func TestForeignStorageDoesNotExist(t *testing.T) {
	w, b := storageWorld(t)
	d := w.makeDrive(b, drives.CloudDrive, "secret-plans", "10")
	eve := w.as("eve@example.org")
	eve.get("/storage").want(http.StatusOK).without("secret-plans")
	for _, end := range []string{"", "/events", "/grow", "/snapshot", "/clone", "/delete", "/snapshots/x/restore"} {
		eve.get(drivePath(d) + end).want(http.StatusNotFound).without("secret-plans")
	}
	csrf := hidden(t, eve.get("/storage/new").body, "/storage/new")
	csrf.Set("name", "secret-plans")
	eve.send("POST", drivePath(d)+"/delete", csrf, nil).want(http.StatusNotFound)
	w.untilDrive(d.ID, available)
}

func TestSuspendedStorageSaysWhy(t *testing.T) {
	d := drives.Drive{State: drives.Suspended}
	if words := driveNotice(d); !strings.Contains(words, "Nothing is deleted") {
		t.Error(words)
	}
	d = drives.Drive{State: drives.Pending, RestoreFrom: "first"}
	if words := driveNotice(d); words != "It is being put back to the snapshot first." {
		t.Error(words)
	}
}

func TestPagesShowWhatIsToBeKnownAboutADrive(t *testing.T) {
	d := drives.Drive{ID: 1, Kind: drives.CloudDrive, Name: "data", State: drives.Available, Notice: "it has its new size once all have detached it and it is attached again"}
	for _, part := range []templ.Component{driveLive(driveView{driveRow: driveRow{Drive: d}}), driveLine(driveRow{Drive: d})} {
		var out strings.Builder
		if err := part.Render(t.Context(), &out); err != nil || !strings.Contains(out.String(), "has its new size once all have detached it and it is attached again") {
			t.Errorf("%v: %s", err, out.String())
		}
	}
}

func TestStoragePagesFollowWhatHappens(t *testing.T) {
	w, b := storageWorld(t)
	list := b.stream("/storage/events")
	list.until("content", "No storage yet")
	d := w.driveWithSnapshot("datasets")
	list.until("content", `class="badge drive-available"`)
	one := b.stream(drivePath(d) + "/events")
	one.until("content", "1 GB")
	if _, err := w.sched.GrowDrive(t.Context(), w.acme.ID, d.Kind, d.ID, 7); err != nil {
		t.Fatal(err)
	}
	list.until("content", "7 GB")
	one.until("content", "7 GB")
	if _, err := w.sched.DeleteSnapshot(t.Context(), w.acme.ID, d.Kind, d.ID, "first"); err != nil {
		t.Fatal(err)
	}
	w.untilDrive(d.ID, func(d drives.Drive) bool { return len(d.Snapshots) == 0 && d.MadeGB == 7 })
	if _, err := w.sched.DeleteDrive(t.Context(), w.acme.ID, d.Kind, d.ID); err != nil {
		t.Fatal(err)
	}
	list.until("content", "No storage yet")
}
