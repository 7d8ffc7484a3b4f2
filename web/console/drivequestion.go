package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"ecolink/ledger/drives"
	"ecolink/scheduler"
	"ecolink/web"
)

// driveQuestion asks about a drive, on a page of its own or in a dialog.
type driveQuestion struct {
	frame
	drives.Drive
	Action   string // where the form goes
	Title    string
	Text     []string
	Fields   []askField
	Button   string
	Danger   bool
	Problems problems
	Nonce    string
}

// askField is something that a question asks for.
type askField struct {
	Name, Label, Hint string
	Value             string // as it is suggested, or was typed
	Number            bool
	Min               int64
}

// driveDeed is something that can be done to a drive, or to one of its snapshots.
type driveDeed struct {
	ask func(d drives.Drive, snapshot string) driveQuestion
	// do does it, and says where to go then.
	do func(c *console, ctx context.Context, a deed) (to string, err error)
}

// deed is what a form asks to be done.
type deed struct {
	visit    *visit
	drive    drives.Drive
	snapshot string
	get      func(field string) string
	key      string // idempotency key
}

// driveDeeds are the questions about a drive, by the end of their address;
// snapshotDeeds those about a snapshot.
var driveDeeds = map[string]driveDeed{
	"grow":     {askGrow, (*console).grow},
	"snapshot": {askSnapshot, (*console).takeSnapshot},
	"clone":    {askClone, (*console).clone},
	"delete":   {askDelete, (*console).deleteDrive},
}

var snapshotDeeds = map[string]driveDeed{
	"restore": {askRestore, (*console).restore},
	"clone":   {askClone, (*console).clone},
	"delete":  {askDeleteSnapshot, (*console).deleteSnapshot},
}

// question serves a deed's form.
func (c *console) driveQuestion(do driveDeed) handler {
	return func(w http.ResponseWriter, r *http.Request, v *visit) error {
		d, err := c.ownDrive(r, v)
		if err != nil {
			return err
		}
		q := do.ask(d, r.PathValue("snapshot"))
		q.Nonce = newNonce()
		return c.askDrive(w, r, v, http.StatusOK, d, q)
	}
}

// driveDeed serves what a deed's form sends.
func (c *console) driveDeed(do driveDeed) handler {
	return func(w http.ResponseWriter, r *http.Request, v *visit) error {
		d, err := c.ownDrive(r, v)
		if err != nil {
			return err
		}
		q := do.ask(d, r.PathValue("snapshot"))
		q.Nonce = r.PostFormValue("nonce")
		typed := []string{r.URL.Path}
		var fields []string
		for n, f := range q.Fields {
			q.Fields[n].Value = strings.TrimSpace(r.PostFormValue(f.Name))
			typed, fields = append(typed, q.Fields[n].Value), append(fields, f.Name)
		}
		to, err := do.do(c, r.Context(), deed{
			visit: v, drive: d, snapshot: r.PathValue("snapshot"), key: idempotencyKey(q.Nonce, typed...),
			get: func(field string) string { return strings.TrimSpace(r.PostFormValue(field)) },
		})
		if err != nil {
			f := web.Explain(r.Context(), c.Log, err)
			if f.Status >= 500 && f.Status != http.StatusServiceUnavailable {
				return f
			}
			q.Problems = problemsOf(f, fields...)
			return c.askDrive(w, r, v, f.Status, d, q)
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		return nil
	}
}

func (c *console) askDrive(w http.ResponseWriter, r *http.Request, v *visit, status int, d drives.Drive, q driveQuestion) error {
	q.frame, q.Drive, q.Action = c.frame(r, v, q.Title), d, r.URL.Path
	if isPart(r) {
		return show(w, r, status, driveQuestionForm(q))
	}
	return show(w, r, status, driveQuestionPage(q))
}

// whenGrown says when a drive has its new size: not every kernel grows what is mounted.
const whenGrown = "It grows while it is in use where this machine can do that, else once all have detached it and it is attached again."

func askGrow(d drives.Drive, _ string) driveQuestion {
	return driveQuestion{
		Title: "Grow " + d.Name, Button: "Grow",
		Text:   []string{fmt.Sprintf("It has %d GB, and costs more from the moment you ask. %s It can't be made smaller again.", d.GB, whenGrown)},
		Fields: []askField{{Name: "size_gb", Label: "New size, GB", Number: true, Min: d.GB + 1, Value: fmt.Sprint(d.GB + max(1, d.GB/2))}},
	}
}

func (c *console) grow(ctx context.Context, a deed) (string, error) {
	gb, err := readGB(a.get("size_gb"))
	if err != nil {
		return "", err
	}
	_, err = c.Scheduler.GrowDrive(ctx, a.drive.Account, a.drive.Kind, a.drive.ID, gb)
	return drivePath(a.drive) + "?note=growing", err
}

func askSnapshot(d drives.Drive, _ string) driveQuestion {
	return driveQuestion{
		Title: "Take a snapshot of " + d.Name, Button: "Take snapshot",
		Text: []string{
			"It keeps what the drive has now, so that you can put the drive back to it, or make another drive of it. What programs have not yet synced may be missing.",
			"It is billed as storage, for what it takes.",
		},
		Fields: []askField{{Name: "name", Label: "Name", Value: snapshotName(time.Now())}},
	}
}

func (c *console) takeSnapshot(ctx context.Context, a deed) (string, error) {
	_, err := c.Scheduler.SnapshotDrive(ctx, a.drive.Account, a.drive.Kind, a.drive.ID, a.get("name"), a.key)
	return drivePath(a.drive) + "?note=snapshot", err
}

func askClone(d drives.Drive, snapshot string) driveQuestion {
	of := d.Name + " as it is now"
	if snapshot != "" {
		of = "the snapshot " + snapshot + " of " + d.Name
	}
	return driveQuestion{
		Title: "Clone " + of, Button: "Clone",
		Text:   []string{"The clone is a drive of its own: what is written to one is not seen in the other. It is billed as any drive."},
		Fields: []askField{{Name: "name", Label: "Name of the clone", Hint: "Lower-case letters, digits and hyphens.", Value: cloneName(d.Name)}},
	}
}

// cloneName suggests a name for a clone, no longer than names may be.
func cloneName(of string) string {
	const room = 63 - len("-copy")
	return strings.TrimRight(of[:min(len(of), room)], "-") + "-copy"
}

func (c *console) clone(ctx context.Context, a deed) (string, error) {
	made, err := c.Scheduler.CreateDrive(ctx, scheduler.DriveRequest{
		Account: a.visit.account.ID, User: a.visit.user.ID, Kind: a.drive.Kind, Name: a.get("name"), MountPath: a.drive.MountPath,
		CloneOf: &drives.Source{Drive: a.drive.ID, Snapshot: a.snapshot}, Key: a.key,
	})
	return drivePath(made), err
}

func askDelete(d drives.Drive, _ string) driveQuestion {
	text := "Everything on it is lost, and its snapshots with it. This can't be undone."
	if len(d.Snapshots) == 0 {
		text = "Everything on it is lost. This can't be undone."
	}
	return driveQuestion{
		Title: "Delete " + d.Name + "?", Button: "Delete", Danger: true, Text: []string{text},
		Fields: []askField{{Name: "name", Label: "Type its name, " + d.Name + ", to delete it"}},
	}
}

func (c *console) deleteDrive(ctx context.Context, a deed) (string, error) {
	if a.get("name") != a.drive.Name {
		return "", unprocessable("name", "that is not its name: type "+a.drive.Name)
	}
	_, err := c.Scheduler.DeleteDrive(ctx, a.drive.Account, a.drive.Kind, a.drive.ID)
	return "/storage?note=deleted", err
}

func askRestore(d drives.Drive, snapshot string) driveQuestion {
	return driveQuestion{
		Title: "Put " + d.Name + " back to " + snapshot + "?", Button: "Restore", Danger: true,
		Text: []string{"What was written since then is lost. Take a snapshot first if you may want it."},
	}
}

func (c *console) restore(ctx context.Context, a deed) (string, error) {
	_, err := c.Scheduler.RestoreDrive(ctx, a.drive.Account, a.drive.Kind, a.drive.ID, a.snapshot, a.key)
	return drivePath(a.drive) + "?note=restoring", err
}

func askDeleteSnapshot(d drives.Drive, snapshot string) driveQuestion {
	return driveQuestion{
		Title: "Delete the snapshot " + snapshot + "?", Button: "Delete", Danger: true,
		Text: []string{"The drive itself stays as it is, and so do drives that were made of the snapshot."},
	}
}

func (c *console) deleteSnapshot(ctx context.Context, a deed) (string, error) {
	_, err := c.Scheduler.DeleteSnapshot(ctx, a.drive.Account, a.drive.Kind, a.drive.ID, a.snapshot)
	return drivePath(a.drive) + "?note=snapshot-deleted", err
}
