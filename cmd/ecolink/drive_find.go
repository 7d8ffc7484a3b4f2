package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// findDrive reads the one that a person means, by its name or its number. A name
// can consist of digits; where both fit, it asks rather than guesses, since what
// follows may be `delete`.
func (c *client) findDrive(ctx context.Context, k storageKind, ref string) (record[drive], error) {
	var named *record[drive]
	for d, err := range list[drive](ctx, c, k.path, 0) {
		if err != nil {
			return record[drive]{}, err
		}
		if d.V.Name == ref && (named == nil || named.V.over()) { // one that failed has left its name to others
			named = &d
		}
	}
	id, err := strconv.ParseInt(ref, 10, 64)
	if err == nil && id >= 1 && strconv.FormatInt(id, 10) == ref {
		var byID record[drive]
		err := c.do(ctx, http.MethodGet, k.of(id), nil, &byID)
		var refused *apiError
		switch {
		case err == nil && named != nil && named.V.ID != id:
			return byID, &apiError{Status: http.StatusConflict, Code: "conflict", Message: fmt.Sprintf(
				"%q is both the number of %s and the name of %s: use their other names", ref, k.title(byID.V), k.title(named.V))}
		case err == nil:
			return byID, nil
		case !errors.As(err, &refused) || refused.Status != http.StatusNotFound:
			return byID, err
		}
	}
	if named == nil {
		return record[drive]{}, notFound("no %s is called %q: `ecolink %s ls` shows yours", k.words, ref, k.command)
	}
	return *named, nil
}

// completeDrive offers the names of the account's to the shell.
func completeDrive(k storageKind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp
		if len(args) > 0 {
			return nil, directive
		}
		return driveNames(cmd.Context(), k, ""), directive
	}
}

func driveNames(ctx context.Context, k storageKind, suffix string) (names []string) {
	c, err := newClient()
	if err != nil {
		return nil
	}
	for d, err := range list[drive](ctx, c, k.path, pageSize) {
		if err != nil {
			break
		}
		if !d.V.over() {
			names = append(names, cobra.CompletionWithDesc(d.V.Name+suffix, d.V.State))
		}
	}
	return names
}

// mountBody is a drive in a launch.
type mountBody struct {
	ID   int64  `json:"id"`
	Path string `json:"path,omitempty"`
	name string // "" when it is not known
}

// String says what is mounted where.
func (m mountBody) String() string {
	if m.name == "" {
		return fmt.Sprintf("%d at %s", m.ID, m.Path)
	}
	return fmt.Sprintf("%d (%s) at %s", m.ID, m.name, m.Path)
}

// nameMounts finds out the names of what is mounted. Whatever has been deleted
// since has none.
func (c *client) nameMounts(ctx context.Context, k storageKind, mounts []mountBody) error {
	for n, m := range mounts {
		var d record[drive]
		var refused *apiError
		err := c.do(ctx, http.MethodGet, k.of(m.ID), nil, &d)
		if err != nil && !(errors.As(err, &refused) && refused.Status == http.StatusNotFound) {
			return err
		}
		mounts[n].name = d.V.Name
	}
	return nil
}

// mounts reads what --drive and --filesystem name: NAME:/path.
func (c *client) mounts(ctx context.Context, k storageKind, flag string, values []string) (out []mountBody, err error) {
	for _, v := range values {
		name, path, _ := strings.Cut(v, ":")
		if name == "" || path == "" && k == cloudDrives {
			return nil, misuse("--%s %s: write it as NAME:/path", flag, v)
		}
		d, err := c.findDrive(ctx, k, name)
		if err != nil {
			return nil, err
		}
		out = append(out, mountBody{ID: d.V.ID, Path: path})
	}
	return out, nil
}
