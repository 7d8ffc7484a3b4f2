package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

// launchBody is what the API takes.
type launchBody struct {
	Name     string            `json:"name"`
	GPUType  string            `json:"gpu_type"`
	GPUCount int               `json:"gpu_count"`
	Class    string            `json:"priority_class,omitempty"`
	Image    string            `json:"image"`
	Hours    float64           `json:"estimated_duration_hours"`
	Command  []string          `json:"command,omitempty"`
	Env      map[string]string `json:"env,omitempty"`
	Drives   []mountBody       `json:"drives,omitempty"`
	Shared   []mountBody       `json:"shared_filesystems,omitempty"`

	SSHPublicKey string `json:"ssh_public_key,omitempty"`

	ServicePort   int  `json:"service_port,omitempty"`
	ServicePublic bool `json:"service_public,omitempty"`
}

type quote struct {
	Rate       string    `json:"rate"`
	HourlyCost string    `json:"hourly_cost"`
	Hold       string    `json:"hold"`
	PaidHours  float64   `json:"paid_hours"`
	Balance    balance   `json:"balance"`
	Covered    bool      `json:"covered"`
	Resources  resources `json:"resources"`
	FreeGPUs   int       `json:"free_gpus"`
	TotalGPUs  int       `json:"total_gpus"`
	Waiting    int       `json:"waiting"`
	Waits      bool      `json:"waits"`
	Preempts   bool      `json:"preempts"`
}

// launchFlags are what is not part of the instance.
type launchFlags struct {
	env    []string
	drives []string
	ssh    string
	shared []string
	dryRun bool
	wait   bool
	detach bool
}

func launchCommand() *cobra.Command {
	var body launchBody
	var f launchFlags
	cmd := &cobra.Command{
		Use:   "launch --gpu-type T --image I --hours H [-- COMMAND…]",
		Short: "Launch an instance and wait until it runs",
		Long: `Launch an instance and wait until it runs.

The price for the hours is set aside from the balance now; what is not used comes
back when the instance ends. Pulling the image and starting are free. While no GPU
is free the instance waits in the queue; ctrl-C stops the waiting, not the instance.

When the start command has failed by the time that the instance runs, the exit code is
7. The instance goes on then, so that you can see why, and is paid for.`,
		Example: `  ecolink instance launch --gpu-type h100 --image docker.io/pytorch/pytorch --hours 2
  ecolink instance launch --gpu-type h100 --gpus 8 --image vllm/vllm-openai --hours 24 --name llm \
      --env HF_HOME=/data --detach -- vllm serve Qwen/Qwen3-8B --port 8000
  ecolink instance launch --gpu-type h100 --image ubuntu:24.04 --hours 1.5 --dry-run`,
		Args: commandBehindDash(0),
	}
	printed := printing(cmd)
	cmd.Flags().StringVar(&body.GPUType, "gpu-type", "", "GPU type; see 'ecolink gpus'")
	cmd.Flags().IntVar(&body.GPUCount, "gpus", 1, "how many GPUs")
	cmd.Flags().StringVar(&body.Class, "priority-class", "", "standard, or spot: its GPUs may be taken for others; it then goes on when some are free")
	cmd.Flags().StringVar(&body.Image, "image", "", "container image; 'ecolink images' lists those on the box")
	cmd.Flags().Float64Var(&body.Hours, "hours", 0, "how many hours to pay for: 1 at least, fractions are fine")
	cmd.Flags().StringVar(&body.Name, "name", "", "name, also its hostname; one is made up when empty")
	cmd.Flags().StringArrayVar(&f.env, "env", nil, "environment variable, as NAME=VALUE; may be repeated")
	cmd.Flags().StringVar(&f.ssh, "ssh-key", "", "file with public keys that open it by SSH, - for standard input; those of the account's members do anyway")
	cmd.Flags().IntVar(&body.ServicePort, "service-port", 0, "port of a service in it, to be reached at the instance's service URL")
	cmd.Flags().BoolVar(&body.ServicePublic, "service-public", false, "open the service to everybody, and not only to members of the account")
	cmd.Flags().StringArrayVar(&f.drives, "drive", nil, "drive and where it is mounted, as NAME:/path; may be repeated")
	cmd.Flags().StringArrayVar(&f.shared, "filesystem", nil, "shared filesystem, as NAME or NAME:/path; may be repeated")
	cmd.RegisterFlagCompletionFunc("image", completeImage)
	cmd.RegisterFlagCompletionFunc("drive", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return driveNames(cmd.Context(), cloudDrives, ":/"), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
	cmd.RegisterFlagCompletionFunc("filesystem", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return driveNames(cmd.Context(), filesystems, ""), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what it would cost")
	cmd.Flags().BoolVar(&f.wait, "wait", true, "wait until it runs")
	cmd.Flags().BoolVar(&f.detach, "detach", false, "don't wait")
	cmd.MarkFlagsMutuallyExclusive("wait", "detach")
	for _, name := range []string{"gpu-type", "image", "hours"} {
		cmd.MarkFlagRequired(name)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		p, err := printed()
		if err != nil {
			return err
		}
		if body.Env, err = environment(f.env); err != nil {
			return err
		}
		if f.ssh != "" {
			if body.SSHPublicKey, err = readPublicKey(f.ssh, cmd.InOrStdin()); err != nil {
				return fmt.Errorf("--ssh-key: %w", err)
			}
		}
		body.Command = args
		if body.Name == "" {
			body.Name = inventName()
		}
		c, err := newClient()
		if err != nil {
			return err
		}
		if body.Drives, err = c.mounts(cmd.Context(), cloudDrives, "drive", f.drives); err != nil {
			return err
		}
		if body.Shared, err = c.mounts(cmd.Context(), filesystems, "filesystem", f.shared); err != nil {
			return err
		}
		if f.dryRun {
			return c.quote(cmd.Context(), p, body)
		}
		i, err := c.launch(cmd.Context(), body)
		if err != nil {
			return err
		}
		if f.wait && !f.detach {
			if i, err = c.waitUntilRunning(cmd.Context(), i, newScreen(cmd.ErrOrStderr())); err != nil {
				return err
			}
			if len(body.Command) > 0 {
				i = c.awaitCommand(cmd.Context(), i)
			}
		}
		return errors.Join(p.show(i, i.V.launched), i.V.commandFailure())
	}
	return cmd
}

// commandBehindDash accepts `before` words and then, behind --, a command.
func commandBehindDash(before int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		n := cmd.ArgsLenAtDash()
		if n < 0 {
			n = len(args)
		}
		if n > before {
			return misuse("%q: put the command behind --, as in `%s`", args[before], usageLine(cmd))
		}
		if n < before {
			return misuse("something is missing: write `%s`", usageLine(cmd))
		}
		return nil
	}
}

func environment(pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	env := map[string]string{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, misuse("--env %s: write it as NAME=VALUE", pair)
		}
		env[name] = value
	}
	return env, nil
}

func (c *client) quote(ctx context.Context, p printer, body launchBody) error {
	var q record[quote]
	r := request{method: http.MethodPost, path: instancesPath + "?dry_run=true", in: body, repeatable: true}
	if err := c.call(ctx, r, &q); err != nil {
		return err
	}
	return p.show(q, func(w io.Writer) { q.V.table(w, body) })
}

func (q quote) table(w io.Writer, body launchBody) {
	row(w, "price", fmt.Sprintf("%s an hour for each %s, %s in all", dollars(q.Rate), body.GPUType, dollars(q.HourlyCost)))
	row(w, "to be held", fmt.Sprintf("%s for %gh", dollars(q.Hold), q.PaidHours))
	row(w, "balance", q.Balance)
	if words := q.Resources.String(); words != "" {
		row(w, "machine", words)
	}
	capacity := fmt.Sprintf("%d of %d × %s free", q.FreeGPUs, q.TotalGPUs, body.GPUType)
	switch {
	case q.Waiting > 0:
		capacity += fmt.Sprintf("; %d in the queue ahead of it", q.Waiting)
	case q.Preempts:
		capacity += "; instances of a lower class would give it theirs"
	case q.Waits:
		capacity += "; it would wait in the queue"
	}
	row(w, "capacity", capacity)
	if !q.Covered {
		row(w, "launch", "not possible: the balance does not cover it")
	}
}

// launch sends the launch, under one key however often.
func (c *client) launch(ctx context.Context, body launchBody) (i record[instance], err error) {
	r := request{method: http.MethodPost, path: instancesPath, in: body, key: newIdempotencyKey()}
	err = c.call(ctx, r, &i)
	if lost := (*lostError)(nil); errors.As(err, &lost) {
		err = fmt.Errorf("%w; whether %s was launched is not known: see `ecolink instance ls`", err, body.Name)
	}
	return i, err
}

// commandFailure is why a launch whose instance runs has failed all the same: a
// script that goes on would wait for what nothing does. Nil as long as no failure is
// known: a command may fail at any later time.
func (i instance) commandFailure() error {
	if !i.CommandFailed || i.over() {
		return nil
	}
	return &commandFailedError{fmt.Sprintf("the start command of %v failed, and the instance is paid for without it: `ecolink instance logs %s` shows the output, `ecolink instance terminate %s` ends it", i, i.Name, i.Name)}
}

// commandFailedError is a launch that went well, of an instance whose start command
// failed: the exit code is its own, since who tries again pays for another one.
type commandFailedError struct{ message string }

func (e *commandFailedError) Error() string { return e.message }

// launched says what came of a launch.
func (i instance) launched(w io.Writer) {
	state := string(i.State)
	if i.Deadline != nil {
		state += " until " + moment(i.Deadline)
	}
	if i.Reason != "" {
		state += ", " + i.Reason
	}
	fmt.Fprintf(w, "%v on %s is %s\n", i, i.gpuWords(), state)
	for _, words := range i.Notices {
		fmt.Fprintln(w, printable(words))
	}
	if !i.over() && !i.CommandFailed { // an image whose command does not start may have no shell either
		fmt.Fprintf(w, "enter it with `ecolink instance terminal %s`\n", i.Name)
	}
}

// inventName makes a name that people can say and that hardly comes twice.
func inventName() string {
	first := []string{"amber", "brisk", "calm", "clear", "deft", "early", "fair", "fern", "gentle", "keen", "late", "light", "mild", "quick", "still", "swift"}
	second := []string{"alder", "birch", "brook", "cedar", "cliff", "delta", "field", "fjord", "grove", "heath", "lake", "maple", "marsh", "reed", "ridge", "willow"}
	var b [4]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s-%s-%02x%02x", first[b[0]%16], second[b[1]%16], b[2], b[3])
}
