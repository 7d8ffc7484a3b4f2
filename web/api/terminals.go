package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/scheduler"
	"ecolink/web"
)

// terminalSession is a terminal session as the API shows it.
type terminalSession struct {
	Name    string    `json:"name" doc:"What session= of the terminal's address says." example:"main"`
	Viewers int       `json:"viewers" doc:"Who watch now."`
	Cols    uint16    `json:"cols" doc:"The window's, which is that of whoever came, typed or resized last."`
	Rows    uint16    `json:"rows"`
	Bytes   int64     `json:"bytes" doc:"Printed in all."`
	UsedAt  time.Time `json:"used_at" doc:"When somebody last typed, came or left."`
	Program string    `json:"program" doc:"The one that has the keyboard; empty if unknown." example:"vim"`
}

type terminalSessionsOutput struct{ Body page[terminalSession] }

type terminalSessionInput struct {
	ByID
	Session string `path:"session" maxLength:"32" doc:"The session's name."`
}

func (a *api) addTerminals() {
	register(a, huma.Operation{
		OperationID: "list-gpu-instance-terminals", Method: http.MethodGet, Path: "/v1/gpu-instances/{id}/terminals", Tags: []string{tagInstances},
		Errors: []int{404, 409}, Summary: "List the terminal sessions",
		Description: "Those that go on, watched or not, by name, in one page. A session ends with its shell; one whose shell has been at its prompt for a week, with no viewer and nothing that it started still running, is ended.",
	}, a.listTerminals)
	register(a, huma.Operation{
		OperationID: "end-gpu-instance-terminal", Method: http.MethodDelete, Path: "/v1/gpu-instances/{id}/terminals/{session}", Tags: []string{tagInstances},
		DefaultStatus: http.StatusNoContent, Errors: []int{404, 409}, Summary: "End a terminal session",
		Description: "Its shell and what that has started on it are ended.",
	}, a.endTerminal)
}

func (a *api) listTerminals(ctx context.Context, in *ByID) (*terminalSessionsOutput, error) {
	all, err := a.Scheduler.Sessions(ctx, web.CallerOf(ctx).Account, in.ID)
	out := page[terminalSession]{Data: []terminalSession{}}
	for _, s := range all {
		out.Data = append(out.Data, terminalSession{
			Name: s.Name, Viewers: s.Viewers, Cols: s.Cols, Rows: s.Rows, Bytes: s.Bytes, UsedAt: s.UsedAt, Program: s.Foreground,
		})
	}
	return &terminalSessionsOutput{out}, err
}

func (a *api) endTerminal(ctx context.Context, in *terminalSessionInput) (*struct{}, error) {
	found, err := a.Scheduler.EndSession(ctx, web.CallerOf(ctx).Account, in.ID, in.Session)
	if err == nil && !found {
		err = &scheduler.Problem{Kind: scheduler.NotFound, Field: "session", Message: fmt.Sprintf("instance %d has no terminal session of this name: list them with GET /v1/gpu-instances/%d/terminals", in.ID, in.ID)}
	}
	return nil, err
}
