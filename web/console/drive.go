package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"ecolink/agent"
	"ecolink/ledger/drives"
	"ecolink/scheduler"
	"ecolink/web"
)

// driveView is everything about one drive or shared filesystem.
type driveView struct {
	frame
	driveRow
	Usage *agent.VolumeUsage // nil when it is not known now
	Note  string             // what a form has just done
}

// driveNotes are what a page says after a form was sent, by the address's ?note=.
var driveNotes = map[string]string{
	"growing":          "It is being grown. " + whenGrown,
	"snapshot":         "The snapshot is being taken.",
	"restoring":        "It is being put back to the snapshot.",
	"snapshot-deleted": "The snapshot is being deleted.",
	"deleted":          "It is being deleted.",
}

func (c *console) drive(w http.ResponseWriter, r *http.Request, v *visit) error {
	d, err := c.lookAtDrive(r, v)
	if err != nil {
		return err
	}
	d.frame, d.Note = c.frame(r, v, d.Name), driveNotes[r.URL.Query().Get("note")]
	return show(w, r, http.StatusOK, drivePage(d))
}

func (c *console) driveEvents(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.follow(w, r, v, func() (templ.Component, bool, error) {
		d, err := c.lookAtDrive(r, v)
		return driveLive(d), false, err
	})
}

func (c *console) lookAtDrive(r *http.Request, v *visit) (d driveView, err error) {
	one, err := c.ownDrive(r, v)
	if err != nil {
		return d, err
	}
	rows, err := c.driveRows(v, []drives.Drive{one})
	if err != nil {
		return d, err
	}
	d.driveRow = rows[0]
	if u, ok := c.Scheduler.DriveUsage(r.Context(), one); ok {
		d.Usage = &u
	}
	return d, nil
}

// ownDrive reads the drive or filesystem that the address names.
func (c *console) ownDrive(r *http.Request, v *visit) (drives.Drive, error) {
	n, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || n < 1 {
		return drives.Drive{}, web.Fail(http.StatusNotFound, "not_found", "", "there is no such drive: choose one from the list of storage")
	}
	return c.Scheduler.Drive(v.account.ID, "", scheduler.DriveID(n))
}

func drivePath(d drives.Drive) string { return fmt.Sprintf("/storage/%d", d.ID) }
func filesPath(d drives.Drive) string { return drivePath(d) + "/files" }

func snapshotPath(d drives.Drive, name, action string) string {
	return drivePath(d) + "/snapshots/" + url.PathEscape(name) + "/" + action
}

// discardable tells whether a drive can be deleted as it is now.
func discardable(d drives.Drive) bool { return d.State == drives.Available || d.State == drives.Failed }

// inUse says of an attached drive why less can be done with it.
func inUse(d drives.Drive) string {
	if len(d.Snapshots) == 0 {
		return "It is in use: delete it once nobody uses it."
	}
	return "It is in use: delete it, or put it back to a snapshot, once nobody uses it."
}

func kindWords(k drives.Kind) string {
	if k == drives.SharedFilesystem {
		return "Shared filesystem: many instances at once."
	}
	return "Drive: one instance at a time."
}

func cloneWords(s drives.Source) string {
	if s.Snapshot != "" {
		return fmt.Sprintf("the snapshot %s of number %d", s.Snapshot, s.Drive)
	}
	return fmt.Sprintf("number %d, as it was then", s.Drive)
}

// driveNotice says what its owner should know of a drive's state.
func driveNotice(d drives.Drive) string {
	switch {
	case d.State == drives.Suspended:
		return "It is suspended, since the balance does not pay for it. Nothing is deleted: add credit, and it is back by itself."
	case d.Unpaid && d.State == drives.Attached:
		return "The balance does not pay for it any more. It is suspended once nobody uses it: add credit, and it stays."
	case d.State == drives.Pending && d.RestoreFrom != "":
		return "It is being put back to the snapshot " + d.RestoreFrom + "."
	case d.State == drives.Pending:
		return "It is being made."
	case d.State == drives.Deleting:
		return "It is being deleted."
	}
	return ""
}

// recent are the newest changes, the newest first.
func recent(history []drives.Change) (out []drives.Change) {
	const enough = 8
	for n := len(history) - 1; n >= 0 && len(out) < enough; n-- {
		out = append(out, history[n])
	}
	return out
}

// fill is how full a drive is, in percent.
func fill(u agent.VolumeUsage) int {
	if u.CapacityBytes <= 0 {
		return 0
	}
	return int(100 * (u.CapacityBytes - u.FreeBytes) / u.CapacityBytes)
}

// snapshotName suggests a name that no other snapshot of this minute has.
func snapshotName(now time.Time) string { return now.UTC().Format("2006-01-02-1504") }
