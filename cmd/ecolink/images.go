package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

// importedImage is an image that the operator has brought to the box.
type importedImage struct {
	Names  []string `json:"names"`
	Digest string   `json:"digest"`
	Bytes  int64    `json:"bytes"`
}

func (c *client) images(ctx context.Context) (all page[importedImage], err error) {
	return all, c.do(ctx, http.MethodGet, "/v1/images", nil, &all) // in one page
}

func imagesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "images",
		Short: "List the images that the operator has brought to the box",
		Long: `List the images that the operator has brought to the box: they are launched without
asking a registry. Any other image that a registry has can be launched as well.`,
		Example: "  ecolink images\n  ecolink instance launch --gpu-type h100 --image team/trainer:3 --hours 2",
		Args:    cobra.NoArgs,
	}
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		all, err := c.images(cmd.Context())
		if err != nil {
			return err
		}
		return p.show(all.Data, func(w io.Writer) {
			if len(all.Data) == 0 {
				fmt.Fprintln(w, "the operator has brought no image to this box: any that a registry has can be launched by its name, and `ecolink image import FILE` on the box itself, as root, brings one")
				return
			}
			row(w, "IMAGE", "DIGEST", "SIZE")
			for _, i := range all.Data {
				row(w, strings.Join(i.V.Names, ", "), i.V.Digest, byteSize(i.V.Bytes))
			}
		})
	})
	return cmd
}

// completeImage offers their names to the shell.
func completeImage(cmd *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp
	c, err := newClient()
	if err != nil {
		return nil, directive
	}
	all, err := c.images(cmd.Context())
	if err != nil {
		return nil, directive
	}
	for _, i := range all.Data {
		names = append(names, i.V.Names...)
	}
	return names, directive
}
