package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

type gpu struct {
	UUID        string  `json:"uuid"`
	Index       int     `json:"index"`
	Type        string  `json:"type"`
	Name        string  `json:"name"`
	MemoryBytes int64   `json:"memory_bytes"`
	Rate        *string `json:"rate"`
	State       string  `json:"state"`
	InstanceID  *int64  `json:"instance_id"`
}

type gpuList struct {
	Simulated     bool   `json:"simulated"`
	SimulatedAs   string `json:"simulated_as"`
	DriverVersion string `json:"driver_version"`
	CUDAVersion   string `json:"cuda_version"`
	Note          string `json:"note"`
	Problems      []struct {
		Index  int    `json:"index"`
		Detail string `json:"detail"`
	} `json:"problems"`
	Data []gpu `json:"data"`
}

func gpusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gpus",
		Short: "List the box's GPUs, their prices and which are free",
		Args:  cobra.NoArgs,
	}
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		var gpus record[gpuList]
		if err := c.do(cmd.Context(), http.MethodGet, "/v1/gpus", nil, &gpus); err != nil {
			return err
		}
		return p.show(gpus, gpus.V.table)
	})
	return cmd
}

func (l gpuList) table(w io.Writer) {
	if len(l.Data) > 0 {
		row(w, "GPU", "TYPE", "NAME", "MEMORY", "PRICE/H", "STATE", "INSTANCE")
	}
	for _, g := range l.Data {
		price, instance := "not set", ""
		if g.Rate != nil {
			price = dollars(*g.Rate)
		}
		if g.InstanceID != nil {
			instance = fmt.Sprint(*g.InstanceID)
		}
		row(w, g.Index, g.Type, g.Name, gibibytes(g.MemoryBytes), price, g.State, instance)
	}
	for _, p := range l.Problems {
		fmt.Fprintf(w, "GPU %d can't be used: %s\n", p.Index, printable(p.Detail))
	}
	if l.Note != "" {
		fmt.Fprintln(w, printable(l.Note))
	}
	if l.Simulated {
		fmt.Fprintf(w, "These GPUs are simulated (%s): they don't exist and compute nothing.\n", printable(l.SimulatedAs))
	}
}

// gibibytes is how GPU memory is sold; "" when unknown.
func gibibytes(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f GiB", float64(n)/(1<<30))
}
