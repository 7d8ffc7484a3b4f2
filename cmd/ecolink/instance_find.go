package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"
)

const instancesPath = "/v1/gpu-instances"

func (c *client) instance(ctx context.Context, id int64) (i record[instance], err error) {
	return i, c.do(ctx, http.MethodGet, instance{ID: id}.path(), nil, &i)
}

// onInstance is how every command on an instance begins.
func onInstance(ctx context.Context, ref string) (*client, record[instance], error) {
	c, err := newClient()
	if err != nil {
		return nil, record[instance]{}, err
	}
	i, err := c.find(ctx, ref)
	return c, i, err
}

// notFound has the exit code of a thing that the API does not know.
func notFound(format string, args ...any) error {
	return &apiError{Status: http.StatusNotFound, Code: "not_found", Message: fmt.Sprintf(format, args...)}
}

// find reads the instance that a person means: a live one's name, or any one's
// number. A name can consist of digits; where both fit, it asks rather than
// guesses, since what follows may be `terminate`.
func (c *client) find(ctx context.Context, ref string) (record[instance], error) {
	id, err := strconv.ParseInt(ref, 10, 64)
	if err != nil || id < 1 || strconv.FormatInt(id, 10) != ref {
		return c.findName(ctx, ref)
	}
	byID, err := c.instance(ctx, id)
	var refused *apiError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return c.findName(ctx, ref)
	}
	if err != nil || byID.V.Name == ref {
		return byID, err
	}
	byName, err := c.findName(ctx, ref)
	switch {
	case err == nil:
		return byID, &apiError{Status: http.StatusConflict, Code: "conflict", Message: fmt.Sprintf(
			"%q is both the number of %v and the name of instance %d: call them %q and %d",
			ref, byID.V, byName.V.ID, byID.V.Name, byName.V.ID)}
	case errors.As(err, &refused) && refused.Status == http.StatusNotFound:
		return byID, nil
	default:
		return byID, err
	}
}

// findName reads the live instance of a name, of which there is at most one.
func (c *client) findName(ctx context.Context, name string) (record[instance], error) {
	var ended *instance // the newest one of the name
	for i, err := range list[instance](ctx, c, instancesPath, 0) {
		if err != nil {
			return i, err
		}
		if i.V.Name != name {
			continue
		}
		if !i.V.State.Final() {
			return i, nil
		}
		if ended == nil {
			ended = &i.V
		}
	}
	if ended != nil {
		return record[instance]{}, notFound("no live instance is called %q; the last one, %d, is %s: name it by its number", name, ended.ID, ended.State)
	}
	return record[instance]{}, notFound("no instance is called %q: `ecolink instance ls` shows yours", name)
}

// completeInstance offers the names of live instances to the shell.
func completeInstance(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, directive
	}
	c, err := newClient()
	if err != nil {
		return nil, directive
	}
	var names []string
	for i, err := range list[instance](cmd.Context(), c, instancesPath, pageSize) {
		if err != nil {
			break
		}
		if !i.V.State.Final() {
			names = append(names, cobra.CompletionWithDesc(i.V.Name, string(i.V.State)))
		}
	}
	return names, directive
}
