package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

// Service is how one reaches what listens in an instance. It is exported for huma,
// which reads no other embedded types.
type Service struct {
	ServicePort   int    `json:"service_port" doc:"The port that its service listens on; 0 for none." example:"8000"`
	ServicePublic bool   `json:"service_public" doc:"Whether everybody reaches the service, and not only members of the account."`
	ServiceURL    string `json:"service_url" doc:"Where the service is reached; empty without a service port."`
	JupyterURL    string `json:"jupyter_url" doc:"Where members of the account open its Jupyter; empty unless the image's name contains jupyter."`
}

func (a *api) serviceOf(i scheduler.Instance) Service {
	s := Service{ServicePort: i.ServicePort, ServicePublic: i.ServiceOpen}
	if i.ServicePort != 0 {
		s.ServiceURL = a.Addresses.ServiceURL(i.ID)
	}
	if i.JupyterToken != "" {
		s.JupyterURL = a.Addresses.JupyterURL(i.ID)
	}
	return s
}

type changeInput struct {
	ByID
	Body struct {
		ServicePort   *int  `json:"service_port,omitempty" doc:"The port that a service in it listens on; 0 for none." example:"8000"`
		ServicePublic *bool `json:"service_public,omitempty" doc:"Open the service to everybody, or close it to all but members of the account."`
	} `nameHint:"ChangeRequest"`
}

func (a *api) addService() {
	register(a, huma.Operation{
		OperationID: "change-gpu-instance", Method: http.MethodPatch, Path: "/v1/gpu-instances/{id}", Tags: []string{tagInstances},
		Errors: []int{400, 404, 409, 413, 415}, Summary: "Change an instance's service",
		Description: "Opens the service to everybody or closes it again, or gives it another port, also while the instance runs. It holds from the next request on, and open connections that it forbids end within seconds. What is left out stays.",
	}, a.change)
}

func (a *api) change(ctx context.Context, in *changeInput) (*instanceOutput, error) {
	if in.Body.ServicePort == nil && in.Body.ServicePublic == nil {
		return nil, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "service_port", "name what to change: service_port or service_public")
	}
	c := web.CallerOf(ctx)
	i, err := a.Scheduler.SetService(ctx, scheduler.ServiceRequest{
		Account: c.Account, Instance: in.ID, Actor: identity.KeyActor(c.Key), From: originOf(ctx),
		Port: in.Body.ServicePort, Open: in.Body.ServicePublic,
	})
	if err != nil {
		return nil, err
	}
	shown, err := a.render(i, time.Now())
	return &instanceOutput{shown}, err
}
