package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// usageSum is what was spent, and for how much of what.
type usageSum struct {
	Amount       string `json:"amount"`
	Calls        int64  `json:"calls"`
	InputTokens  int64  `json:"input_tokens"`
	OutputTokens int64  `json:"output_tokens"`
	GPUSeconds   int64  `json:"gpu_seconds"`
}

type usagePart struct {
	Data []struct {
		Name  string `json:"name"`
		Label string `json:"label"`
		usageSum
	} `json:"data"`
	Others  usageSum `json:"others"`
	Unnamed usageSum `json:"unnamed"`
}

type usageReport struct {
	Month      string    `json:"month"`
	Total      usageSum  `json:"total"`
	ByProduct  usagePart `json:"by_product"`
	ByModel    usagePart `json:"by_model"`
	ByKey      usagePart `json:"by_key"`
	ByTag      usagePart `json:"by_tag"`
	ByResource usagePart `json:"by_resource"`
}

func usageCommand() *cobra.Command {
	var month string
	cmd := &cobra.Command{
		Use:     "usage",
		Short:   "Break a month's spending down by product, model, key, tag and resource",
		Example: "  ecolink billing usage --month 2026-11",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&month, "month", "", "calendar month, UTC, like 2026-11 (default: the current one)")
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		path := "/v1/billing/usage"
		if month != "" {
			path += "?" + url.Values{"month": {month}}.Encode()
		}
		var u record[usageReport]
		if err := c.do(cmd.Context(), http.MethodGet, path, nil, &u); err != nil {
			return err
		}
		return p.show(u, func(w io.Writer) { u.V.write(w) })
	})
	return cmd
}

func (u usageReport) write(w io.Writer) {
	row(w, "BY", "NAME", "SPENT", "CHARGES", "INPUT TOKENS", "OUTPUT TOKENS", "GPU TIME")
	line := func(by, name string, s usageSum) {
		if s == (usageSum{Amount: s.Amount}) {
			return // nothing was charged
		}
		row(w, by, name, dollars(s.Amount), s.Calls, s.InputTokens, s.OutputTokens, gpuTime(s.GPUSeconds))
	}
	for _, part := range []struct {
		by, unnamed string
		usagePart
	}{
		{"product", "", u.ByProduct}, {"model", "", u.ByModel}, {"key", "(no key)", u.ByKey}, {"tag", "(no tag)", u.ByTag}, {"resource", "", u.ByResource},
	} {
		for _, s := range part.Data {
			name := s.Label
			if s.Label != s.Name {
				name = s.Name + " " + s.Label
			}
			line(part.by, name, s.usageSum)
		}
		line(part.by, "(others)", part.Others)
		if part.unnamed != "" {
			line(part.by, part.unnamed, part.Unnamed)
		}
	}
	row(w, "total", u.Month, dollars(u.Total.Amount), u.Total.Calls, u.Total.InputTokens, u.Total.OutputTokens, gpuTime(u.Total.GPUSeconds))
}

// gpuTime is a time of GPUs in hours, as they are priced.
func gpuTime(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%02dh", seconds/3600, seconds%3600/36)
}

// download copies a file of the API's to out as it comes.
func (c *client) download(ctx context.Context, path string, out io.Writer) error {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

// monthlyStatement is the path of a month's statement.
func monthlyStatement(month, format string) string {
	return "/v1/billing/statement?" + url.Values{"month": {month}, "format": {strings.ToLower(format)}}.Encode()
}
