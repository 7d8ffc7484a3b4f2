package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ecolink/agent"
	"ecolink/scheduler"
)

// instance is a GPU instance as the API tells of it.
type instance struct {
	ID                int64           `json:"id"`
	Name              string          `json:"name"`
	GPUType           string          `json:"gpu_type"`
	GPUCount          int             `json:"gpu_count"`
	Class             scheduler.Class `json:"priority_class"`
	Preemptions       int             `json:"preemptions"`
	GPUs              []string        `json:"gpus"`
	Simulated         bool            `json:"simulated"`
	Image             string          `json:"image"`
	ImageDigest       string          `json:"image_digest"`
	Command           []string        `json:"command"`
	EnvNames          []string        `json:"env_names"`
	Drives            []mountBody     `json:"drives"`
	Shared            []mountBody     `json:"shared_filesystems"`
	State             scheduler.State `json:"state"`
	Reason            string          `json:"reason"` // why it waits
	Problem           string          `json:"problem"`
	Notices           []string        `json:"notices"`        // what happened inside it
	CommandFailed     bool            `json:"command_failed"` // as notices say
	Resources         resources       `json:"resources"`
	ServicePort       int             `json:"service_port"`
	ServicePublic     bool            `json:"service_public"`
	ServiceURL        string          `json:"service_url"`
	JupyterURL        string          `json:"jupyter_url"`
	Rate              string          `json:"rate"`
	HourlyCost        string          `json:"hourly_cost"`
	Hold              string          `json:"hold"`
	PaidHours         float64         `json:"paid_hours"`
	CreatedAt         time.Time       `json:"created_at"`
	RunningSince      *time.Time      `json:"running_since"`
	Deadline          *time.Time      `json:"deadline"`
	RanSeconds        float64         `json:"ran_seconds"`
	TerminationReason string          `json:"termination_reason"`
	History           []change        `json:"history"`
	Progress          *progress       `json:"progress"` // while its image is pulled
}

type change struct {
	State  scheduler.State `json:"state"`
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"`
}

func (i instance) path() string { return fmt.Sprintf("/v1/gpu-instances/%d", i.ID) }

// String names an instance in a sentence.
func (i instance) String() string { return fmt.Sprintf("instance %d (%s)", i.ID, i.Name) }

// resources are what it has of the machine beside its GPUs.
type resources struct {
	CPUs         float64 `json:"cpus"`
	MemoryBytes  int64   `json:"memory_bytes"`
	ScratchBytes int64   `json:"scratch_bytes"`
}

func (r resources) String() string {
	return scheduler.Spell(agent.Resources{MilliCPUs: int64(r.CPUs * 1000), MemoryBytes: r.MemoryBytes, ScratchBytes: r.ScratchBytes})
}

// over tells whether it runs no more, although its container may be going still.
func (i instance) over() bool { return i.State.Final() || i.State == scheduler.Terminating }

// everRan tells whether it got as far as running.
func (i instance) everRan() bool {
	for _, c := range i.History {
		if c.State == scheduler.Running {
			return true
		}
	}
	return i.State == scheduler.Running
}

func (i instance) gpuWords() string {
	words := fmt.Sprintf("%d × %s", i.GPUCount, i.GPUType)
	if i.Class == scheduler.Spot {
		words += ", spot"
	}
	if i.Simulated {
		words += " (simulated)"
	}
	return words
}

// remark is the one thing to know about its state.
func (i instance) remark() string {
	switch {
	case i.Problem != "":
		return i.Problem
	case i.Reason != "":
		return i.Reason
	case i.TerminationReason != "":
		return strings.ReplaceAll(i.TerminationReason, "_", " ")
	case i.Progress != nil && i.State == scheduler.Pulling:
		return i.Progress.words()
	}
	var words []string
	if len(i.Notices) > 0 && !i.over() {
		first, _, _ := strings.Cut(i.Notices[0], ". ")
		words = append(words, strings.TrimSuffix(first, "."))
	}
	if i.Deadline != nil {
		words = append(words, span(max(0, time.Until(*i.Deadline)))+" left")
	}
	return strings.Join(words, "; ")
}

func instanceTable(all []record[instance]) func(io.Writer) {
	return func(w io.Writer) {
		row(w, "ID", "NAME", "STATE", "GPUS", "COST/H", "IMAGE", "REMARK")
		for _, r := range all {
			i := r.V
			row(w, i.ID, i.Name, i.State, i.gpuWords(), dollars(i.HourlyCost), i.Image, i.remark())
		}
	}
}

// details writes all that is known of an instance.
func (i instance) details(w io.Writer) {
	line := func(name string, value any) {
		if fmt.Sprint(value) != "" {
			row(w, name, value)
		}
	}
	line("id", i.ID)
	line("name", i.Name)
	line("state", i.State)
	line("waiting", i.Reason)
	line("problem", i.Problem)
	line("ended", strings.ReplaceAll(i.TerminationReason, "_", " "))
	for _, words := range i.Notices {
		line("note", words)
	}
	line("gpus", i.gpuWords())
	for _, uuid := range i.GPUs {
		line("", uuid)
	}
	line("machine", i.Resources)
	line("image", i.Image)
	line("", i.ImageDigest)
	line("command", quoted(i.Command))
	line("environment", strings.Join(i.EnvNames, ", "))
	for _, m := range i.Drives {
		row(w, "drive", m)
	}
	for _, m := range i.Shared {
		row(w, "filesystem", m)
	}
	line("service", i.serviceWords())
	line("jupyter", i.JupyterURL)
	line("price", fmt.Sprintf("%s an hour for each GPU, %s in all", dollars(i.Rate), dollars(i.HourlyCost)))
	line("paid for", fmt.Sprintf("%gh, %s", i.PaidHours, dollars(i.Hold)))
	line("ran", span(time.Duration(i.RanSeconds*float64(time.Second))))
	line("until", moment(i.Deadline))
	for _, c := range i.History {
		row(w, c.State, moment(&c.At), c.Reason)
	}
}

// quoted writes a command so that a shell would read the same words.
func quoted(argv []string) string {
	words := make([]string, len(argv))
	for n, a := range argv {
		words[n] = a
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$`|&;<>()*?[]#~!{}") {
			words[n] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

func instanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "instance",
		Aliases: []string{"instances"},
		Short:   "Launch GPU instances and work with them",
		Long: `Launch GPU instances and work with them.

An instance is named by its number or by its name; only live instances can be
named by name. What is outside a mounted drive is gone when an instance ends.`,
	}
	cmd.AddCommand(launchCommand(), instanceListCommand(), instanceShowCommand(), logsCommand(), terminalCommand(), terminalsCommand(),
		execCommand(), sshCommand(), serviceCommand(), extendCommand(), terminateCommand())
	return cmd
}
