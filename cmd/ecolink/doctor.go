package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ecolink/agent/doctor"
)

// examination is what `ecolink doctor` found and did.
type examination struct {
	Findings []doctor.Finding `json:"findings"`
	Mended   []doctor.Finding `json:"mended"`
	Failed   []failedRepair   `json:"failed"` // that --repair could not put right
	// UserNamespaces is whether containers have them; empty when nothing is known.
	UserNamespaces string `json:"user_namespaces,omitempty"`
}

// failedRepair is a finding that is as it was, and why.
type failedRepair struct {
	doctor.Finding
	Error string `json:"error"`
}

// repair mends each finding that can be and may be. One that fails does not keep
// the rest from it; with ctx it ends.
func (x *examination) repair(ctx context.Context, found []doctor.Finding, may func(doctor.Finding) bool, mend func(doctor.Finding) error) {
	for _, f := range found {
		if f.Repair == "" || ctx.Err() != nil || !may(f) {
			continue
		}
		if err := mend(f); err != nil {
			x.Failed = append(x.Failed, failedRepair{f, err.Error()})
			continue
		}
		x.Mended = append(x.Mended, f)
	}
}

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for left-overs and for what is missing on this box, and put it right",
		Long: `Look for left-overs on this box (as root): containers, file systems, mounts, loop
devices, networks and processes without an instance, images of drives without a
drive, half-made files and uploads; and for what EcoLink needs: programs, control
groups, room on the disk, books that agree, a clock that is right. It works beside a running EcoLink and without one,
and takes the settings of "ecolink serve" from the same file.

Nothing is changed without --repair. With it, what loses no drive's files is put
right; an image that no drive has is deleted only when its name is typed, or with
--yes. What can't be put right is told, and the rest is all the same. The exit code
is 0 when nothing is left to be said, or only what a box can do with, else 1.`,
		Example: `  ecolink doctor
  ecolink doctor --repair
  ecolink doctor -o json`,
		Args: cobra.NoArgs,
	}
	var c serveConfig
	var repair, yes bool
	c.flags(cmd.Flags())
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = f.Name != "config" && f.Name != "data-dir" && f.Name != "run-dir" })
	cmd.Flags().BoolVar(&repair, "repair", false, "put right what can be")
	cmd.Flags().BoolVar(&yes, "yes", false, "with --repair: delete images that no drive has, without asking")
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		if err := fill(cmd.Flags(), os.LookupEnv); err != nil {
			return err
		}
		for _, dir := range []*string{&c.dataDir, &c.runDir} {
			if *dir, err = filepath.Abs(*dir); err != nil {
				return err
			}
		}
		mend := func(f doctor.Finding) bool {
			return repair && (!f.LosesFiles || yes || askForName(cmd, deletes(fmt.Sprint(f.Kind, " ", f.Name)), f.Name) == nil)
		}
		x, err := examine(cmd.Context(), c, repair, mend)
		if err != nil && len(x.Mended)+len(x.Failed) == 0 {
			return err
		}
		x.UserNamespaces, err = userNamespacesNow(c.runDir, err)
		// What was done is told even when one can't look any more.
		if err := errors.Join(p.show(x, x.table), err); err != nil {
			return err
		}
		if slices.ContainsFunc(x.Findings, func(f doctor.Finding) bool { return !f.Minor }) || len(x.Failed) > 0 {
			return exitCode(1)
		}
		return nil
	}
	return cmd
}

// examine looks, mends and looks again: through the socket when EcoLink runs, or
// else by itself.
func examine(ctx context.Context, c serveConfig, repair bool, mend func(doctor.Finding) bool) (x examination, err error) {
	x = examination{Findings: []doctor.Finding{}, Mended: []doctor.Finding{}, Failed: []failedRepair{}}
	box := boxFlags{&c.dataDir, &c.runDir}
	if box.runs(ctx) {
		return x.throughSocket(ctx, onSocket(adminSocket(c.runDir)), mend)
	}
	st, err := box.open(false)
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	check := newCheckup(c, st, nil)
	if repair {
		if err := check.alone(ctx, c, &x, mend); err != nil {
			return x, err
		}
	}
	found, err := check.Examine(ctx)
	if found != nil {
		x.Findings = found
	}
	return x, err
}

func (x examination) throughSocket(ctx context.Context, c *client, mend func(doctor.Finding) bool) (examination, error) {
	found, err := c.examine(ctx)
	if err != nil {
		return x, err
	}
	x.Findings = found
	x.repair(ctx, found, mend, func(f doctor.Finding) error {
		// Not by call: ending a workload takes its time.
		resp, err := c.send(ctx, request{method: http.MethodPost, path: "/admin/doctor/mend", in: f})
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	if len(x.Mended)+len(x.Failed) > 0 {
		if found, err = c.examine(ctx); err == nil {
			x.Findings = found
		}
	}
	return x, err
}

func (c *client) examine(ctx context.Context) ([]doctor.Finding, error) {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "/admin/doctor"})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var out examination
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return nil, c.broken(ctx, err)
	}
	return out.Findings, nil
}

func (x examination) table(w io.Writer) {
	for _, f := range x.Mended {
		fmt.Fprintf(w, "mended: %s %s: %s\n", f.Kind, printable(f.Name), printable(f.Repair))
	}
	for _, f := range x.Failed {
		fmt.Fprintf(w, "not mended: %s %s: %s\n", f.Kind, printable(f.Name), printable(f.Error))
	}
	for _, f := range x.Findings {
		fmt.Fprintf(w, "%s %s: %s\n", f.Kind, printable(f.Name), printable(f.Why))
		for _, where := range f.Where {
			fmt.Fprintf(w, "    %s\n", printable(where))
		}
		switch {
		case f.Repair != "" && f.LosesFiles:
			fmt.Fprintf(w, "    --repair asks, and then would %s\n", printable(f.Repair))
		case f.Repair != "":
			fmt.Fprintf(w, "    --repair would %s\n", printable(f.Repair))
		}
		if f.Advice != "" {
			fmt.Fprintf(w, "    %s\n", printable(strings.ToUpper(f.Advice[:1])+f.Advice[1:]))
		}
	}
	if len(x.Findings)+len(x.Failed) == 0 {
		fmt.Fprintln(w, "nothing is left over and nothing is missing")
	}
	if x.UserNamespaces != "" {
		fmt.Fprintf(w, "user namespaces of containers: %s\n", printable(x.UserNamespaces))
	}
}
