package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger/drives"
	"ecolink/scheduler"
	"ecolink/web"
)

// NewDrive is what a new drive names. Its limits are the scheduler's.
type NewDrive struct {
	Name    string       `json:"name" doc:"1 to 63 lower-case letters, digits and hyphens. Unique among the account's drives and shared filesystems." example:"checkpoints"`
	SizeGB  *int64       `json:"size_gb,omitempty" doc:"In GB of 10⁹ bytes, 1 at least. A clone is as large as what it is made of when this is left out, and may be larger." example:"200"`
	CloneOf *driveSource `json:"clone_of,omitempty" doc:"Begin with what another has, or one of its snapshots."`
}

type newFilesystem struct {
	NewDrive
	MountPath string `json:"mount_path,omitempty" doc:"Where it is mounted unless a launch says otherwise; /shared when left out." example:"/shared"`
}

type createDriveInput struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"The same key with the same body creates once, for 30 days: the second answer shows what the first call made."`
	Body           NewDrive
}

type createFilesystemInput struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"The same key with the same body creates once, for 30 days: the second answer shows what the first call made."`
	Body           newFilesystem
}

const createDescription = "The balance must cover the first 24 hours, and the pool must have room for all of it: else nothing is created. " +
	"It is pending until it is made, and paid for by the day from when it is available."

func (a *api) addDrives() {
	cloud := storage{api: a, kind: drives.CloudDrive, path: "/v1/drives", name: "drive", tag: tagDrives}
	shared := storage{api: a, kind: drives.SharedFilesystem, path: "/v1/shared-filesystems", name: "shared-filesystem", tag: tagFilesystems}
	cloud.register()
	shared.register()
	create := func(s storage) huma.Operation {
		return huma.Operation{
			OperationID: "create-" + s.name, Method: http.MethodPost, Path: s.path, Tags: []string{s.tag},
			DefaultStatus: http.StatusCreated, Errors: []int{400, 402, 404, 409, 413, 415},
			Summary: "Create a " + s.words(), Description: createDescription,
		}
	}
	register(a, create(cloud), func(ctx context.Context, in *createDriveInput) (*driveOutput, error) {
		return cloud.create(ctx, in.Body, "", in.IdempotencyKey)
	})
	register(a, create(shared), func(ctx context.Context, in *createFilesystemInput) (*driveOutput, error) {
		return shared.create(ctx, in.Body.NewDrive, in.Body.MountPath, in.IdempotencyKey)
	})
}

func (s storage) create(ctx context.Context, body NewDrive, mountPath, key string) (*driveOutput, error) {
	c := web.CallerOf(ctx)
	r := scheduler.DriveRequest{Account: c.Account, User: c.User, Kind: s.kind, Name: body.Name, MountPath: mountPath, Key: key}
	if body.CloneOf != nil {
		r.CloneOf = &drives.Source{Drive: body.CloneOf.ID, Snapshot: body.CloneOf.Snapshot}
	}
	if body.SizeGB != nil {
		r.GB = *body.SizeGB
		if r.GB == 0 && r.CloneOf != nil { // said, which is not left out
			return nil, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "size_gb", "a size of 0 GB can't be: ask for more, or leave it out")
		}
	}
	d, err := s.Scheduler.CreateDrive(ctx, r)
	return s.show(ctx, http.StatusCreated, d, err)
}
