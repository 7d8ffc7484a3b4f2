package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger"
	"ecolink/scheduler"
	"ecolink/web"
)

// launchRequest is what a launch names. Its limits are the scheduler's, which
// says in its answer what would do; here are only the kinds of the fields.
type launchRequest struct {
	Name        string            `json:"name" doc:"1 to 63 lower-case letters, digits and hyphens. Unique among the account's instances that are not over." example:"trainer"`
	GPUType     string            `json:"gpu_type" doc:"A type that GET /v1/gpus lists." example:"h100"`
	GPUCount    *int              `json:"gpu_count,omitempty" doc:"From 1, which it is when left out, to as many as the box has." example:"1"`
	Class       string            `json:"priority_class,omitempty" doc:"standard, which it is when left out, or spot: its GPUs may be taken for a request of a higher class. It gets SIGTERM and 30 s then, keeps its files, does not pay meanwhile, and goes on by itself. platform is for operators." example:"standard"`
	Image       string            `json:"image" doc:"A container image." example:"docker.io/library/ubuntu:24.04"`
	Hours       float64           `json:"estimated_duration_hours" doc:"Running time to pay for in advance: 1 at least, fractions allowed. What is not used comes back." example:"2"`
	Command     []string          `json:"command,omitempty" nullable:"false" doc:"Replaces the image's command."`
	Env         map[string]string `json:"env,omitempty" doc:"Environment variables. Their values are never shown again."`
	Drives      []mount           `json:"drives,omitempty" nullable:"false" doc:"Drives that are available, and where they are mounted: 8 at most together with the shared filesystems. The instance has them from now on, also while it waits for GPUs, until nothing of it is left."`
	Filesystems []filesystemMount `json:"shared_filesystems,omitempty" nullable:"false" doc:"Shared filesystems, and where they are mounted."`

	SSHPublicKey string `json:"ssh_public_key,omitempty" doc:"Public keys that open this instance by SSH, as authorized_keys has them, one a line. The keys of the account's members open it anyway. A key in the profile of somebody who is not in the account, or with which another account has launched too, enters by the instance's number, and not by its name." example:"ssh-ed25519 AAAA… you@laptop"`

	ServicePort   int  `json:"service_port,omitempty" doc:"The port that a service in it will listen on, to be reached at service_url; 0, as when left out, for none." example:"8000"`
	ServicePublic bool `json:"service_public,omitempty" doc:"Open the service to everybody, and not only to members of the account."`
}

type launchInput struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"The same key with the same body launches once: the second answer shows what the first call made."`
	DryRun         bool   `query:"dry_run" doc:"Quote the price and the free capacity, and create nothing."`
	Body           launchRequest
}

// Resolve refuses a bare ?dry_run, which huma takes for one that is not there: it
// would launch.
func (in *launchInput) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	for _, v := range u.Query()["dry_run"] {
		if v == "" {
			return []error{&huma.ErrorDetail{Location: "query.dry_run", Message: "write dry_run=true or dry_run=false"}}
		}
	}
	return nil
}

// quote is the answer to a dry run.
type quote struct {
	GPUType    string          `json:"gpu_type" example:"h100"`
	GPUCount   int             `json:"gpu_count" example:"1"`
	Rate       ledger.MicroUSD `json:"rate" doc:"Price of one GPU for an hour." example:"1.60"`
	HourlyCost ledger.MicroUSD `json:"hourly_cost" example:"1.60"`
	PaidHours  float64         `json:"paid_hours" example:"2"`
	Hold       ledger.MicroUSD `json:"hold" doc:"What the launch would set aside." example:"3.20"`
	Balance    balance         `json:"balance" doc:"As it is before the launch."`
	Covered    bool            `json:"covered" doc:"Whether the available balance pays for the hold."`
	Resources  resources       `json:"resources" doc:"What the instance would have of the machine beside its GPUs."`
	FreeGPUs   int             `json:"free_gpus" doc:"Of the type, now."`
	TotalGPUs  int             `json:"total_gpus" doc:"Of the type, on this box."`
	Waiting    int             `json:"waiting" doc:"Instances for the type that wait and would go first."`
	Waits      bool            `json:"waits" doc:"Whether it would wait in the queue."`
	Preempts   bool            `json:"preempts" doc:"Whether instances of a lower class would give it their GPUs, which takes some seconds."`
}

// launchOutput is an instance, or the quote of a dry run.
type launchOutput struct {
	Status   int
	Location string `header:"Location"`
	Body     any
}

type extendInput struct {
	ByID
	IdempotencyKey string `header:"Idempotency-Key" doc:"The same key with the same body extends once."`
	Body           struct {
		Hours float64 `json:"hours" doc:"Running time to add: 1 at least, fractions allowed." example:"3"`
	} `nameHint:"ExtendRequest"`
}

type extension struct {
	Instance  instance        `json:"instance"`
	AddedCost ledger.MicroUSD `json:"added_cost" doc:"What was set aside in addition." example:"4.80"`
	Balance   balance         `json:"balance" doc:"After it."`
	Deadline  *time.Time      `json:"deadline" doc:"The new one; null while the billing clock stands."`
}

type extendOutput struct{ Body extension }

func (a *api) addChanges() {
	register(a, huma.Operation{
		OperationID: "launch-gpu-instance", Method: http.MethodPost, Path: "/v1/gpu-instances", Tags: []string{tagInstances},
		DefaultStatus: http.StatusCreated, Errors: []int{400, 402, 409, 413, 415},
		Summary: "Launch an instance",
		Description: "Sets the price of the estimated duration aside and launches. When the balance does not cover it, nothing is created. " +
			"When no GPU is free, the instance waits as pending and says why.",
		Responses: map[string]*huma.Response{
			"200": respond[quote](a, "The quote, with dry_run=true."),
			"201": respond[instance](a, "The instance."),
		},
	}, a.launch)
	register(a, huma.Operation{
		OperationID: "extend-gpu-instance", Method: http.MethodPost, Path: "/v1/gpu-instances/{id}/extend", Tags: []string{tagInstances},
		Errors: []int{400, 402, 404, 409, 413, 415}, Summary: "Pay for more time",
		Description: "Sets the price of the added hours aside. When the balance does not cover it, the old deadline stays in force.",
	}, a.extend)
	register(a, huma.Operation{
		OperationID: "terminate-gpu-instance", Method: http.MethodPost, Path: "/v1/gpu-instances/{id}/terminate", Tags: []string{tagInstances},
		Errors: []int{404}, Summary: "End an instance",
		Description: "The unused part of the hold is back when this returns; the container goes shortly after, and its files with it. Ending one that is ending or over changes nothing.",
	}, a.terminate)
}

func (a *api) launch(ctx context.Context, in *launchInput) (*launchOutput, error) {
	c := web.CallerOf(ctx)
	r := scheduler.LaunchRequest{
		Account: c.Account, User: c.User, RequestID: web.RequestID(ctx), Key: in.IdempotencyKey,
		Name: in.Body.Name, GPUType: in.Body.GPUType, GPUCount: 1, Image: in.Body.Image, Hours: in.Body.Hours,
		ServicePort: in.Body.ServicePort, ServiceOpen: in.Body.ServicePublic,
		Drives: drivesOf(in.Body.Drives), Filesystems: filesystemsOf(in.Body.Filesystems),
		Command: in.Body.Command, Env: in.Body.Env, SSHKey: in.Body.SSHPublicKey, APIKey: c.Key, Tag: c.Tag,
	}
	if in.Body.GPUCount != nil {
		r.GPUCount = *in.Body.GPUCount
	}
	var err error
	if r.Class, err = scheduler.ParseClass(in.Body.Class); err != nil {
		return nil, err
	}
	if in.DryRun {
		q, err := a.quote(ctx, r)
		return &launchOutput{Status: http.StatusOK, Body: q}, err
	}
	i, err := a.Scheduler.Launch(ctx, r)
	if err != nil {
		return nil, err
	}
	shown, err := a.render(i, time.Now())
	return &launchOutput{Status: http.StatusCreated, Location: fmt.Sprintf("/v1/gpu-instances/%d", i.ID), Body: shown}, err
}

func (a *api) quote(ctx context.Context, r scheduler.LaunchRequest) (quote, error) {
	q, err := a.Scheduler.Quote(ctx, r)
	if err == nil {
		err = q.Image
	}
	if err != nil {
		return quote{}, err
	}
	hourly, err := ledger.Cost(q.Rate, r.GPUCount, time.Hour)
	return quote{
		GPUType: r.GPUType, GPUCount: r.GPUCount, Rate: q.Rate, HourlyCost: hourly, PaidHours: q.Paid.Hours(), Hold: q.Hold,
		Balance: balanceOf(q.Wallet), Covered: q.Covered(), Resources: resourcesOf(q.Resources), FreeGPUs: q.FreeGPUs, TotalGPUs: q.TotalGPUs, Waiting: q.Waiting, Waits: q.Waits, Preempts: q.Preempts,
	}, err
}

func (a *api) extend(ctx context.Context, in *extendInput) (*extendOutput, error) {
	c := web.CallerOf(ctx)
	x, err := a.Scheduler.Extend(ctx, scheduler.ExtendRequest{
		Account: c.Account, Instance: in.ID, Hours: in.Body.Hours, RequestID: web.RequestID(ctx), Key: in.IdempotencyKey, APIKey: c.Key, Tag: c.Tag,
	})
	if err != nil {
		return nil, err
	}
	shown, err := a.render(x.Instance, time.Now())
	return &extendOutput{extension{Instance: shown, AddedCost: x.Added, Balance: balanceOf(x.Wallet), Deadline: shown.Deadline}}, err
}

func (a *api) terminate(ctx context.Context, in *ByID) (*instanceOutput, error) {
	i, err := a.Scheduler.Terminate(ctx, web.CallerOf(ctx).Account, in.ID)
	if err != nil {
		return nil, err
	}
	shown, err := a.render(i, time.Now())
	return &instanceOutput{shown}, err
}
