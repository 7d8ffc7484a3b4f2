package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

// instance is a GPU instance as the API shows it.
type instance struct {
	ID          scheduler.InstanceID `json:"id" example:"142"`
	Name        string               `json:"name" example:"trainer"`
	GPUType     string               `json:"gpu_type" example:"h100"`
	GPUCount    int                  `json:"gpu_count"`
	Class       scheduler.Class      `json:"priority_class" enum:"spot,standard,platform" doc:"Requests of a higher class go first, and may take the GPUs of lower ones."`
	Preemptions int                  `json:"preemptions" doc:"How often its GPUs were taken from it."`
	GPUs        []string             `json:"gpus" nullable:"false" doc:"UUIDs of the GPUs that it has; empty while it waits and once it is gone."`
	Simulated   bool                 `json:"simulated" doc:"Its GPUs do not exist; EcoLink imitates them."`
	Image       string               `json:"image" example:"docker.io/library/ubuntu:24.04"`
	ImageDigest string               `json:"image_digest" doc:"What the image's name meant at launch, and what runs; empty for instances of an older EcoLink."`
	Command     []string             `json:"command" nullable:"false" doc:"Empty: what the image says."`
	Service
	EnvNames      []string        `json:"env_names" nullable:"false" doc:"Names of the environment variables that were given. Their values are never shown."`
	SSHPublicKey  string          `json:"ssh_public_key" doc:"Public keys that it was launched with, one a line; empty for none."`
	Drives        []mount         `json:"drives" nullable:"false" doc:"What it has attached, or had when it has ended."`
	Filesystems   []mount         `json:"shared_filesystems" nullable:"false" doc:"The shared filesystems that it has, or had."`
	State         scheduler.State `json:"state" enum:"pending,pulling,starting,running,preempted,terminating,terminated,failed"`
	Reason        string          `json:"reason" doc:"Why it waits; empty when it does not."`
	Problem       string          `json:"problem" doc:"What went wrong, while it is tried again or for good; empty for nothing."`
	Notices       []string        `json:"notices" nullable:"false" doc:"What happened inside it that nobody asked for, in sentences: how its start command ended, and whether processes ran out of memory."`
	CommandFailed bool            `json:"command_failed" doc:"Whether its start command could not start, or ended in any other way than with success; notices say how. The instance goes on without it."`
	Resources     resources       `json:"resources" doc:"What it has of the machine beside its GPUs, by the operator's policy when it was launched."`
	Rate          ledger.MicroUSD `json:"rate" doc:"Price of one GPU for an hour, as it was at launch." example:"1.60"`
	HourlyCost    ledger.MicroUSD `json:"hourly_cost" doc:"Price of all its GPUs for an hour." example:"1.60"`
	Hold          ledger.MicroUSD `json:"hold" doc:"What was set aside for it: hourly_cost times paid_hours." example:"3.20"`
	PaidHours     float64         `json:"paid_hours" doc:"Running time that the hold covers." example:"2"`
	CreatedAt     time.Time       `json:"created_at"`
	CreatedBy     identity.UserID `json:"created_by"`

	RunningSince      *time.Time `json:"running_since" doc:"When the billing clock started; null while it stands."`
	Deadline          *time.Time `json:"deadline" doc:"When the paid time is up; null while the billing clock stands."`
	RanSeconds        int64      `json:"ran_seconds" doc:"Running time so far, by which it is billed."`
	TerminationReason *string    `json:"termination_reason" doc:"Why it ended; null until it has." example:"duration_expired"`
	History           []change   `json:"history" nullable:"false" doc:"Every state that it has been in, oldest first."`
	Progress          *progress  `json:"progress" doc:"How far its image is, while it is pulled."`
}

type change struct {
	State  scheduler.State `json:"state"`
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"`
}

type progress struct {
	Layers     int   `json:"layers"`
	LayersDone int   `json:"layers_done"`
	Bytes      int64 `json:"bytes"`
	TotalBytes int64 `json:"total_bytes" doc:"It grows while layers are found."`
	// Not "layers", which is their number.
	LayerList []layer `json:"layer_list" nullable:"false" doc:"Every layer, lowest first."`
}

type layer struct {
	Digest     string           `json:"digest" doc:"The beginning of its digest." example:"9b5a1c70d7e2"`
	State      agent.LayerState `json:"state" enum:"waiting,downloading,unpacking,done"`
	Bytes      int64            `json:"bytes" doc:"Downloaded so far."`
	TotalBytes int64            `json:"total_bytes"`
}

func progressOf(p agent.PullProgress) *progress {
	out := &progress{Layers: p.Layers, LayersDone: p.LayersDone, Bytes: p.Bytes, TotalBytes: p.TotalBytes, LayerList: []layer{}}
	for _, l := range p.Each {
		out.LayerList = append(out.LayerList, layer{Digest: l.Digest, State: l.State, Bytes: l.Bytes, TotalBytes: l.TotalBytes})
	}
	return out
}

// TransformSchema says that progress may be null, which huma can't see of a
// pointer to a struct.
func (instance) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	p := s.Properties["progress"]
	s.Properties["progress"] = &huma.Schema{
		Description: p.Description,
		AnyOf:       []*huma.Schema{{Ref: p.Ref}, {Type: "null"}},
	}
	return s
}

// render shows an instance as it is at the moment now.
func (a *api) render(i scheduler.Instance, now time.Time) (instance, error) {
	hourly, err := ledger.Cost(i.Rate, i.GPUCount, time.Hour)
	if err != nil {
		return instance{}, err
	}
	hold, err := ledger.Cost(i.Rate, i.GPUCount, i.Paid)
	if err != nil {
		return instance{}, err
	}
	waits, err := a.Scheduler.Waiting(i)
	if err != nil {
		return instance{}, err
	}
	out := instance{
		ID: i.ID, Name: i.Name, GPUType: i.GPUType, GPUCount: i.GPUCount, Class: i.Priority(), Preemptions: i.Preemptions, GPUs: listOf(i.GPUs), Simulated: a.Inventory.Simulated,
		Image: i.Image, ImageDigest: i.ImageDigest, Command: listOf(i.Command), EnvNames: listOf(slices.Sorted(maps.Keys(i.Env))), SSHPublicKey: i.SSHKey,
		Service: a.serviceOf(i),
		Drives:  mountsOf(i.Drives), Filesystems: mountsOf(i.Filesystems),
		State: i.State, Reason: waits, Problem: i.Problem, Notices: listOf(i.Notices()), CommandFailed: i.CommandEnd != nil && i.CommandEnd.Failed(), Resources: resourcesOf(i.Resources),
		Rate: i.Rate, HourlyCost: hourly, Hold: hold, PaidHours: i.Paid.Hours(),
		CreatedAt: i.CreatedAt.UTC(), CreatedBy: i.CreatedBy,
		RunningSince: instantOrNull(i.RunningSince), Deadline: instantOrNull(i.Deadline()),
		RanSeconds: int64(min(i.RanBy(now), i.Paid) / time.Second), History: []change{},
	}
	if i.TerminationReason != "" {
		out.TerminationReason = &i.TerminationReason
	}
	for _, c := range i.History {
		out.History = append(out.History, change{State: c.State, At: c.At.UTC(), Reason: c.Reason})
	}
	if p, ok := a.Scheduler.Progress(i.ID); ok && i.State == scheduler.Pulling {
		out.Progress = progressOf(p)
	}
	return out, nil
}

// listOf is never null in JSON.
func listOf(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func instantOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// still is the instance without what changes only because time passes.
func (i instance) still() instance {
	i.RanSeconds = 0
	return i
}

type instanceOutput struct{ Body instance }

type listInstancesInput struct {
	PageQuery
	Watch bool `query:"watch" doc:"Stream the list, as event \"instances\", at once and after every change."`
}

type getInstanceInput struct {
	ByID
	Watch bool `query:"watch" doc:"Stream the instance, as event \"instance\", at once and after every change, until it has ended."`
}

func (a *api) addInstances() {
	register(a, huma.Operation{
		OperationID: "list-gpu-instances", Method: http.MethodGet, Path: "/v1/gpu-instances", Tags: []string{tagInstances},
		Summary: "List the instances", Description: "All GPU instances of the account, those that are over too, newest first.",
		Responses: map[string]*huma.Response{"200": orEvents(respond[page[instance]](a, "The page, or with watch=true the stream."))},
	}, a.listInstances)
	register(a, huma.Operation{
		OperationID: "get-gpu-instance", Method: http.MethodGet, Path: "/v1/gpu-instances/{id}", Tags: []string{tagInstances},
		Errors: []int{404}, Summary: "Read an instance",
		Responses: map[string]*huma.Response{"200": orEvents(respond[instance](a, "The instance, or with watch=true the stream."))},
	}, a.getInstance)
}

func (a *api) listInstances(ctx context.Context, in *listInstancesInput) (*stream, error) {
	before, err := in.before()
	if err != nil {
		return nil, err
	}
	account := web.CallerOf(ctx).Account
	read := func() (view, error) {
		// One more than fits tells whether there is another page.
		found, err := a.Scheduler.List(account, scheduler.InstanceID(before), in.Limit+1)
		if err != nil {
			return view{}, err
		}
		now := time.Now()
		var rows, still []instance
		for _, i := range found {
			row, err := a.render(i, now)
			if err != nil {
				return view{}, err
			}
			rows, still = append(rows, row), append(still, row.still())
		}
		number := func(i instance) int64 { return int64(i.ID) }
		return view{data: paginate(rows, in.Limit, number), compared: paginate(still, in.Limit, number)}, nil
	}
	return a.watchOrShow(in.Watch, "instances", read)
}

func (a *api) getInstance(ctx context.Context, in *getInstanceInput) (*stream, error) {
	account := web.CallerOf(ctx).Account
	read := func() (view, error) {
		i, err := a.Scheduler.Get(account, in.ID)
		if err != nil {
			return view{}, err
		}
		shown, err := a.render(i, time.Now())
		return view{data: shown, compared: shown.still(), last: i.State.Final()}, err
	}
	return a.watchOrShow(in.Watch, "instance", read)
}
