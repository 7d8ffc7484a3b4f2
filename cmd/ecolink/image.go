package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// storedImage is an image on the box.
type storedImage struct {
	Digest   string    `json:"digest"`
	Names    []string  `json:"names"`
	Bytes    int64     `json:"bytes"`
	UsedAt   time.Time `json:"used_at"`
	Imported bool      `json:"imported"`
	InUse    bool      `json:"in_use"`
}

func (i storedImage) name() string {
	if len(i.Names) == 0 {
		return i.Digest
	}
	return strings.Join(i.Names, ", ")
}

func imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Import, list and remove container images (as root, on the box itself)"}
	box := findBox(cmd)
	cmd.AddCommand(imageImportCommand(box), imageListCommand(box), imageRemoveCommand(box), imagePruneCommand(box))
	return cmd
}

// socket is the running box's: images are containerd's, which only it may change.
func (b boxFlags) socket(ctx context.Context) (*client, error) {
	if !b.runs(ctx) {
		return nil, fmt.Errorf("EcoLink does not answer at %s: start it first, or name the --run-dir that it runs with", adminSocket(*b.runDir))
	}
	return onSocket(adminSocket(*b.runDir)), nil
}

func imageImportCommand(box boxFlags) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Take images from a file that docker save or an OCI tool has written",
		Long: `Take images from a tar file that ` + "`docker save`" + ` or an OCI tool has written, compressed
or not. Everybody on the box may launch them, no registry is asked for them, and they
stay until they are removed by name. Either all of a file's images are taken or none.`,
		Example: `  docker save team/trainer:3 | ssh box ecolink image import -
  ecolink image import trainer.oci.tar --name registry.example.org/team/trainer:3`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the image, when the file does not say it or says another")
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		in := io.NopCloser(cmd.InOrStdin())
		if args[0] != "-" {
			if in, err = os.Open(args[0]); err != nil {
				return cannotRead(args[0], err)
			}
		}
		defer in.Close()
		c, err := box.socket(cmd.Context())
		if err != nil {
			return err
		}
		path := "/admin/images/import"
		if name != "" {
			path += "?" + url.Values{"name": {name}}.Encode()
		}
		var out page[storedImage]
		if err := c.upload(cmd.Context(), path, in, &out); err != nil {
			return err
		}
		return p.show(out.Data, func(w io.Writer) {
			for _, i := range out.Data {
				fmt.Fprintf(w, "imported %s\n", printable(i.V.name()))
			}
		})
	}
	return cmd
}

func imageListCommand(box boxFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the images on this box", Args: cobra.NoArgs}
	onBox(cmd, box, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		var out page[storedImage]
		if err := c.do(cmd.Context(), http.MethodGet, "/admin/images", nil, &out); err != nil {
			return err
		}
		return p.show(out.Data, func(w io.Writer) {
			if len(out.Data) == 0 {
				fmt.Fprintln(w, "no images are on this box: a launch pulls what it needs, and `ecolink image import FILE` brings one")
				return
			}
			row(w, "IMAGE", "DIGEST", "SIZE", "LAST USED", "STATE")
			for _, i := range out.Data {
				row(w, strings.Join(i.V.Names, ", "), shortDigest(i.V.Digest), byteSize(i.V.Bytes), moment(&i.V.UsedAt), i.V.state())
			}
		})
	})
	return cmd
}

func (i storedImage) state() string {
	var words []string
	if i.InUse {
		words = append(words, "in use")
	}
	if i.Imported {
		words = append(words, "imported")
	}
	return strings.Join(words, ", ")
}

// shortDigest is enough of a digest to tell it apart.
func shortDigest(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return hex[:min(len(hex), 12)]
}

// onBox makes cmd a command that asks the running box.
func onBox(cmd *cobra.Command, box boxFlags, run func(cmd *cobra.Command, args []string, c *client, p printer) error) {
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		c, err := box.socket(cmd.Context())
		if err != nil {
			return err
		}
		return run(cmd, args, c, p)
	}
}

func imageRemoveCommand(box boxFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm IMAGE", Aliases: []string{"remove"}, Short: "Remove an image that no instance uses, by a name or its digest", Args: cobra.ExactArgs(1),
	}
	onBox(cmd, box, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		var out page[storedImage]
		if err := c.do(cmd.Context(), http.MethodPost, "/admin/images/remove", map[string]string{"image": args[0]}, &out); err != nil {
			return err
		}
		return p.show(out.Data, removed(out.Data))
	})
	return cmd
}

func imagePruneCommand(box boxFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove all images that no instance uses, save imported ones", Args: cobra.NoArgs,
		Long: `Remove all images that no instance uses, save imported ones. Those that somebody has
asked for in the last minute stay. EcoLink does this by itself as well, after
--image-unused-days and when the disk is fuller than --image-disk-percent.`,
	}
	onBox(cmd, box, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		var out page[storedImage]
		if err := c.do(cmd.Context(), http.MethodPost, "/admin/images/prune", nil, &out); err != nil {
			return err
		}
		return p.show(out.Data, removed(out.Data))
	})
	return cmd
}

func removed(all []record[storedImage]) func(io.Writer) {
	return func(w io.Writer) {
		if len(all) == 0 {
			fmt.Fprintln(w, "there was nothing to remove")
		}
		for _, i := range all {
			fmt.Fprintf(w, "removed %s (%s)\n", printable(i.V.name()), byteSize(i.V.Bytes))
		}
	}
}

// upload sends a file of any length, once: what broke off is imported again as a whole.
func (c *client) upload(ctx context.Context, path string, file io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, file)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := c.http.Do(req)
	if err != nil {
		return c.broken(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return readError(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}
