package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger/drives"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

// drive is a cloud drive or a shared filesystem as the API shows it.
type drive struct {
	ID        drives.ID   `json:"id" example:"12"`
	Kind      drives.Kind `json:"kind" enum:"drive,shared-filesystem"`
	Name      string      `json:"name" example:"checkpoints"`
	Region    string      `json:"region" example:"local"`
	MountPath string      `json:"mount_path" doc:"Where a shared filesystem is mounted unless a launch says otherwise; empty for a drive." example:"/shared"`
	SizeGB    int64       `json:"size_gb" doc:"In GB of 10⁹ bytes. What the file system in it needs for itself comes out of it. While it grows this is the size that it is to have." example:"200"`
	Growing   bool        `json:"growing" doc:"It does not have size_gb yet."`
	BilledGB  int64       `json:"billed_gb" doc:"What is paid for: its size, and what its snapshots take of the disk." example:"212"`
	Usage     *driveUsage `json:"usage" doc:"How full it is; null when that is not known now."`

	State       drives.State      `json:"state" enum:"pending,available,attached,suspended,deleting,deleted,failed"`
	Problem     string            `json:"problem" doc:"What went wrong, while it is tried again or for good; empty for nothing."`
	Notice      string            `json:"notice" doc:"What is to be known about it although nothing went wrong; empty for nothing."`
	Attachments []driveAttachment `json:"attachments" nullable:"false" doc:"Which instances have it: one at most has a drive, many a shared filesystem."`
	Snapshots   []driveSnapshot   `json:"snapshots" nullable:"false"`
	CloneOf     *driveSource      `json:"clone_of" doc:"What it was made of; null when it began empty."`
	CreatedAt   time.Time         `json:"created_at"`
	CreatedBy   identity.UserID   `json:"created_by"`
	History     []driveChange     `json:"history" nullable:"false" doc:"The states that it has been in, oldest first: how it began, and the newest."`
}

type driveUsage struct {
	CapacityBytes int64 `json:"capacity_bytes" doc:"What files can have of it, used or not."`
	FreeBytes     int64 `json:"free_bytes"`
}

type driveAttachment struct {
	InstanceID int64     `json:"instance_id" example:"142"`
	Path       string    `json:"path" example:"/workspace"`
	Since      time.Time `json:"since"`
}

type driveSnapshot struct {
	Name      string               `json:"name" example:"before-training"`
	CreatedAt time.Time            `json:"created_at"`
	SizeGB    int64                `json:"size_gb" doc:"The size that the drive had."`
	UsedBytes int64                `json:"used_bytes" doc:"What it takes of the disk, which is what is paid for in whole GB; 0 until it is ready."`
	State     drives.SnapshotState `json:"state" enum:"pending,ready,deleting"`
}

type driveSource struct {
	ID       drives.ID `json:"id" doc:"A drive or shared filesystem." example:"12"`
	Snapshot string    `json:"snapshot,omitempty" doc:"One of its snapshots; left out: what is in it now."`
}

type driveChange struct {
	State  drives.State `json:"state"`
	At     time.Time    `json:"at"`
	Reason string       `json:"reason"`
}

// TransformSchema says what may be null, which huma can't see of a pointer to a
// struct.
func (drive) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	for _, name := range []string{"usage", "clone_of"} {
		p := s.Properties[name]
		s.Properties[name] = &huma.Schema{Description: p.Description, AnyOf: []*huma.Schema{{Ref: p.Ref}, {Type: "null"}}}
	}
	return s
}

// still is the drive without what changes only because somebody writes to it.
func (d drive) still() drive {
	d.Usage = nil
	return d
}

func (a *api) renderDrive(ctx context.Context, d drives.Drive) drive {
	out := drive{
		ID: d.ID, Kind: d.Kind, Name: d.Name, Region: d.Region, MountPath: d.MountPath, SizeGB: d.GB, Growing: d.Live() && d.MadeGB < d.GB, BilledGB: d.BilledGB(),
		State: d.State, Problem: d.Problem, Notice: d.Notice, CreatedAt: d.CreatedAt.UTC(), CreatedBy: d.CreatedBy,
		Attachments: []driveAttachment{}, Snapshots: []driveSnapshot{}, History: []driveChange{},
	}
	if u, ok := a.Scheduler.DriveUsage(ctx, d); ok {
		out.Usage = &driveUsage{CapacityBytes: u.CapacityBytes, FreeBytes: u.FreeBytes}
	}
	for _, at := range d.Attachments {
		_, number, _ := strings.Cut(at.User, "/")
		id, _ := strconv.ParseInt(number, 10, 64)
		out.Attachments = append(out.Attachments, driveAttachment{InstanceID: id, Path: at.Path, Since: at.At.UTC()})
	}
	for _, s := range d.Snapshots {
		out.Snapshots = append(out.Snapshots, driveSnapshot{Name: s.Name, CreatedAt: s.At.UTC(), SizeGB: s.GB, UsedBytes: s.Bytes, State: s.State})
	}
	if d.CloneOf != nil {
		out.CloneOf = &driveSource{ID: d.CloneOf.Drive, Snapshot: d.CloneOf.Snapshot}
	}
	for _, c := range d.History {
		out.History = append(out.History, driveChange{State: c.State, At: c.At.UTC(), Reason: c.Reason})
	}
	return out
}

// mount is a drive in an instance.
type mount struct {
	ID   drives.ID `json:"id" doc:"The number of the drive or shared filesystem." example:"12"`
	Path string    `json:"path" doc:"Where it is in the container." example:"/workspace"`
}

// filesystemMount is mount where the path has a default.
type filesystemMount struct {
	ID   drives.ID `json:"id" doc:"The shared filesystem's number." example:"13"`
	Path string    `json:"path,omitempty" doc:"Where it is in the container; left out: at its own mount_path." example:"/shared"`
}

// mountsOf shows an instance's drives; never null.
func mountsOf(ms []scheduler.DriveMount) []mount {
	out := []mount{}
	for _, m := range ms {
		out = append(out, mount{ID: m.Drive, Path: m.Path})
	}
	return out
}

// drivesOf and filesystemsOf read those of a launch.
func drivesOf(ms []mount) (out []scheduler.DriveMount) {
	for _, m := range ms {
		out = append(out, scheduler.DriveMount{Drive: m.ID, Path: m.Path})
	}
	return out
}

func filesystemsOf(ms []filesystemMount) (out []scheduler.DriveMount) {
	for _, m := range ms {
		out = append(out, scheduler.DriveMount{Drive: m.ID, Path: m.Path})
	}
	return out
}

// storage is the handlers for one of the two kinds.
type storage struct {
	*api
	kind drives.Kind
	path string // "/v1/drives"
	name string // "drive", as it is in operations and sentences
	tag  string
}

func (s storage) words() string { return strings.ReplaceAll(s.name, "-", " ") }

type driveOutput struct {
	Status   int
	Location string `header:"Location"`
	Body     drive
}

// DriveByID is the input of operations on one drive or filesystem.
type DriveByID struct {
	ID drives.ID `path:"id" minimum:"1" doc:"Its number." example:"12"`
}

type listDrivesInput struct {
	PageQuery
	Watch bool `query:"watch" doc:"Stream the list, as event \"drives\", at once and after every change."`
}

type getDriveInput struct {
	DriveByID
	Watch bool `query:"watch" doc:"Stream it, as event \"drive\", at once and after every change, until it is deleted."`
}

type snapshotInput struct {
	DriveByID
	IdempotencyKey string `header:"Idempotency-Key" doc:"The same key with the same body makes one snapshot, for 30 days."`
	Body           struct {
		Name string `json:"name" doc:"1 to 63 lower-case letters, digits and hyphens." example:"before-training"`
	} `nameHint:"SnapshotRequest"`
}

// NamedSnapshot is the input of operations on one snapshot.
type NamedSnapshot struct {
	DriveByID
	Name string `path:"name" doc:"The snapshot's name." example:"before-training"`
}

type restoreInput struct {
	NamedSnapshot
	IdempotencyKey string `header:"Idempotency-Key" doc:"The same key restores once, for 30 days."`
}

type growInput struct {
	DriveByID
	Body struct {
		SizeGB int64 `json:"size_gb" doc:"The size to grow to; it can't be made smaller." example:"400"`
	} `nameHint:"GrowRequest"`
}

func (s storage) register() {
	register(s.api, huma.Operation{
		OperationID: "list-" + s.name + "s", Method: http.MethodGet, Path: s.path, Tags: []string{s.tag},
		Summary: "List the " + s.words() + "s", Description: "All " + s.words() + "s of the account that are not deleted, newest first.",
		Responses: map[string]*huma.Response{"200": orEvents(respond[page[drive]](s.api, "The page, or with watch=true the stream."))},
	}, s.list)
	register(s.api, huma.Operation{
		OperationID: "get-" + s.name, Method: http.MethodGet, Path: s.path + "/{id}", Tags: []string{s.tag},
		Errors: []int{404}, Summary: "Read a " + s.words(),
		Responses: map[string]*huma.Response{"200": orEvents(respond[drive](s.api, "It, or with watch=true the stream."))},
	}, s.get)
	register(s.api, huma.Operation{
		OperationID: "grow-" + s.name, Method: http.MethodPatch, Path: s.path + "/{id}", Tags: []string{s.tag},
		Errors: []int{400, 402, 404, 409, 413, 415}, Summary: "Grow a " + s.words(),
		Description: "At any time, attached or not. The larger size is paid for from now on; the balance must cover the next 24 hours of it. When it can't be grown, problem says why and it stays as it is.",
	}, s.grow)
	register(s.api, huma.Operation{
		OperationID: "delete-" + s.name, Method: http.MethodDelete, Path: s.path + "/{id}", Tags: []string{s.tag},
		DefaultStatus: http.StatusAccepted, Errors: []int{404, 409}, Summary: "Delete a " + s.words(),
		Description: "With all that is in it, and its snapshots; it must be available. It is paid for until now, and gone shortly after. This can't be undone.",
	}, s.delete)
	register(s.api, huma.Operation{
		OperationID: "snapshot-" + s.name, Method: http.MethodPost, Path: s.path + "/{id}/snapshots", Tags: []string{s.tag},
		DefaultStatus: http.StatusCreated, Errors: []int{400, 402, 404, 409, 413, 415}, Summary: "Take a snapshot of a " + s.words(),
		Description: "Attached or not, and not while it grows: what was synced before the call is in it. It is paid for as storage, for what it takes of the disk; the balance must cover the most that it can be.",
	}, s.snapshot)
	register(s.api, huma.Operation{
		OperationID: "delete-" + s.name + "-snapshot", Method: http.MethodDelete, Path: s.path + "/{id}/snapshots/{name}", Tags: []string{s.tag},
		DefaultStatus: http.StatusAccepted, Errors: []int{404, 409}, Summary: "Delete a snapshot of a " + s.words(),
	}, s.deleteSnapshot)
	register(s.api, huma.Operation{
		OperationID: "restore-" + s.name, Method: http.MethodPost, Path: s.path + "/{id}/snapshots/{name}/restore", Tags: []string{s.tag},
		Errors: []int{404, 409}, Summary: "Put a " + s.words() + " back to a snapshot",
		Description: "What was written since is lost. It must be available, and is pending until it is done.",
	}, s.restore)
}

func (s storage) list(ctx context.Context, in *listDrivesInput) (*stream, error) {
	before, err := in.before()
	if err != nil {
		return nil, err
	}
	account := web.CallerOf(ctx).Account
	read := func() (view, error) {
		// One more than fits tells whether there is another page.
		found, err := s.Scheduler.Drives(account, s.kind, drives.ID(before), in.Limit+1)
		if err != nil {
			return view{}, err
		}
		var rows, still []drive
		for _, d := range found {
			row := s.renderDrive(ctx, d)
			rows, still = append(rows, row), append(still, row.still())
		}
		number := func(d drive) int64 { return int64(d.ID) }
		return view{data: paginate(rows, in.Limit, number), compared: paginate(still, in.Limit, number)}, nil
	}
	return s.watchOrShow(in.Watch, "drives", read)
}

func (s storage) get(ctx context.Context, in *getDriveInput) (*stream, error) {
	account, gone := web.CallerOf(ctx).Account, false
	var last drives.Drive
	read := func() (view, error) {
		d, err := s.Scheduler.Drive(account, s.kind, in.ID)
		if err != nil && last.State == drives.Deleting { // whoever watches it hears that it is gone
			gone, err = true, nil
			d = last
			d.State = drives.Deleted
		}
		if err != nil {
			return view{}, err
		}
		last = d
		shown := s.renderDrive(ctx, d)
		return view{data: shown, compared: shown.still(), last: gone}, nil
	}
	return s.watchOrShow(in.Watch, "drive", read)
}

func (s storage) grow(ctx context.Context, in *growInput) (*driveOutput, error) {
	d, err := s.Scheduler.GrowDrive(ctx, web.CallerOf(ctx).Account, s.kind, in.ID, in.Body.SizeGB)
	return s.show(ctx, http.StatusOK, d, err)
}

func (s storage) delete(ctx context.Context, in *DriveByID) (*driveOutput, error) {
	d, err := s.Scheduler.DeleteDrive(ctx, web.CallerOf(ctx).Account, s.kind, in.ID)
	return s.show(ctx, http.StatusAccepted, d, err)
}

func (s storage) snapshot(ctx context.Context, in *snapshotInput) (*driveOutput, error) {
	d, err := s.Scheduler.SnapshotDrive(ctx, web.CallerOf(ctx).Account, s.kind, in.ID, in.Body.Name, in.IdempotencyKey)
	return s.show(ctx, http.StatusCreated, d, err)
}

func (s storage) deleteSnapshot(ctx context.Context, in *NamedSnapshot) (*driveOutput, error) {
	d, err := s.Scheduler.DeleteSnapshot(ctx, web.CallerOf(ctx).Account, s.kind, in.ID, in.Name)
	return s.show(ctx, http.StatusAccepted, d, err)
}

func (s storage) restore(ctx context.Context, in *restoreInput) (*driveOutput, error) {
	d, err := s.Scheduler.RestoreDrive(ctx, web.CallerOf(ctx).Account, s.kind, in.ID, in.Name, in.IdempotencyKey)
	return s.show(ctx, http.StatusOK, d, err)
}

func (s storage) show(ctx context.Context, status int, d drives.Drive, err error) (*driveOutput, error) {
	if err != nil {
		return nil, err
	}
	return &driveOutput{Status: status, Location: fmt.Sprintf("%s/%d", s.path, d.ID), Body: s.renderDrive(ctx, d)}, nil
}
