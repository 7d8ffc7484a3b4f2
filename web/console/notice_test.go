package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/drives"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/scheduler/schedulertest"
)

// times makes sure that a page says something so often.
func (a answer) times(n int, text string) answer {
	a.t.Helper()
	if got := strings.Count(a.body, text); got != n {
		a.t.Fatalf("%q is there %d times, want %d: %s", text, got, n, a.body)
	}
	return a
}

// credit changes what Acme has to an amount.
func (w *world) credit(to string) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		has, err := ledger.WalletOf(tx, w.acme.ID)
		if err != nil {
			return err
		}
		e := ledger.Entry{At: time.Now(), Account: w.acme.ID, Amount: usd(to) - has.Total(), Description: "test"}
		if e.Amount > 0 {
			_, err = ledger.Credit(tx, e)
		} else {
			_, err = ledger.Correct(tx, e)
		}
		return err
	})
}

// Nobody has to wave a notice away: it is there while its reason is, on an open page,
// too.
func TestTheNoticeOfASuspendedDriveIsOnItsPagesOnceAndEndsWithItsReason(t *testing.T) {
	w, b := storageWorld(t)
	d := w.makeDrive(b, drives.CloudDrive, "datasets", "10")
	page := drivePath(d)
	const words, hint = "It is suspended, since the balance does not pay for it.", "Add credit, and it is back by itself."
	b.get(page).want(http.StatusOK).times(0, `id="notice"`).times(0, words)
	b.get("/storage").want(http.StatusOK).times(0, hint)
	list, one := b.stream("/storage/events"), b.stream(page+"/events")

	w.credit("0")
	w.untilDrive(d.ID, func(d drives.Drive) bool { return d.State == drives.Suspended })
	for range 2 { // seeing it does not take it away
		b.get(page).want(http.StatusOK).times(1, `id="notice"`).times(1, words).times(0, `id="problem"`)
		b.get("/storage").want(http.StatusOK).times(1, hint)
	}
	for text, live := range map[string]*eventStream{words: one, hint: list} {
		if got := live.until("content", text); strings.Count(got, text) != 1 {
			t.Errorf("%q is there more than once: %s", text, got)
		}
	}
	eve := w.as("eve@example.org")
	eve.get("/storage").want(http.StatusOK).without(hint, "datasets")
	for _, elsewhere := range []string{"/instances", "/keys"} {
		b.get(elsewhere).want(http.StatusOK).without(words, hint)
	}

	w.credit("50")
	w.untilDrive(d.ID, available)
	b.get(page).want(http.StatusOK).times(0, `id="notice"`).times(0, words)
	b.get("/storage").want(http.StatusOK).times(0, hint)
	for text, live := range map[string]*eventStream{words: one, hint: list} {
		if got := live.until("content", "drive-available"); strings.Contains(got, text) {
			t.Errorf("%q is still there: %s", text, got)
		}
	}
}

func TestTheNoticeOfADriveThatGrowsLaterStaysUntilItIsAttachedAnew(t *testing.T) {
	w, b := storageWorld(t)
	d := w.makeDrive(b, drives.CloudDrive, "datasets", "10")
	page := drivePath(d)
	w.machine.FailWith(func(op, id string) (before, after error) {
		if op == "grow" {
			return nil, &agent.VolumeGrowLaterError{Volume: id}
		}
		return nil, nil
	})
	b.submit(page+"/grow", page+"/grow", url.Values{"size_gb": {"20"}}).wantRedirect(page + "?note=growing")
	w.untilDrive(d.ID, func(d drives.Drive) bool { return d.MadeGB == 20 })
	const words = "t has its new size once all have detached it and it is attached again: this machine can&#39;t enlarge what is in use"
	// What a form has just done is said where it leads to, and not again.
	b.get(page+"?note=growing").want(http.StatusOK).times(1, `class="notice good" role="status"`).times(1, `id="known"`).times(1, words)
	b.get(page).want(http.StatusOK).times(0, `class="notice good" role="status"`).times(1, `id="known"`).times(1, words)
	b.get(page+"?note=nonsense").want(http.StatusOK).times(0, `class="notice good" role="status"`)
	b.get("/storage").want(http.StatusOK).times(1, words)

	_, err := w.sched.Launch(t.Context(), scheduler.LaunchRequest{
		Account: w.acme.ID, User: w.ana.ID, Name: "trainer", GPUType: "h100", GPUCount: 1, Image: "ubuntu:24.04", Hours: 1,
		Drives: []scheduler.DriveMount{{Drive: d.ID, Path: "/data"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.until(1, scheduler.Running)
	b.get(page).want(http.StatusOK, "drive-attached").times(0, `id="known"`).times(0, words)
	b.get("/storage").want(http.StatusOK).times(0, words)
}

func TestWhyADriveCouldNotBeMadeIsOnItsPagesOnceAndGoesWithIt(t *testing.T) {
	w, b := storageWorld(t)
	w.machine.FailWith(func(op, _ string) (before, after error) {
		if op == "create" {
			return schedulertest.Refusal("no loop <device>"), nil
		}
		return nil, nil
	})
	a := b.submit("/storage/new", "/storage/new", url.Values{"kind": {"drive"}, "name": {"data"}, "size_gb": {"10"}}).want(http.StatusSeeOther)
	page := a.header.Get("Location")
	w.untilDrive(1, func(d drives.Drive) bool { return d.State == drives.Failed })
	const words = "o loop &lt;device&gt;"
	b.get(page).want(http.StatusOK, `class="notice bad" id="problem"`).times(1, `id="problem"`).times(0, `id="notice"`)
	b.get("/storage").want(http.StatusOK).times(1, words)
	b.submit(page+"/delete", page+"/delete", url.Values{"name": {"data"}}).wantRedirect("/storage?note=deleted")
	b.get("/storage").want(http.StatusOK).times(0, words)
	b.get(page).want(http.StatusNotFound)
}
