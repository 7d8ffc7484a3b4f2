package main

import (
	"github.com/spf13/cobra"
)

func instanceListCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the account's live instances",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "those that are over, too")
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		found := []record[instance]{}
		for i, err := range list[instance](cmd.Context(), c, instancesPath, 0) {
			if err != nil {
				return err
			}
			if all || !i.V.State.Final() {
				found = append(found, i)
			}
		}
		return p.show(found, instanceTable(found))
	})
	return cmd
}

func instanceShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show INSTANCE",
		Short:             "Show all that is known of an instance",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeInstance,
	}
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		i, err := c.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		i, err = c.instance(cmd.Context(), i.V.ID)
		if err != nil {
			return err
		}
		if err := c.nameMounts(cmd.Context(), cloudDrives, i.V.Drives); err != nil {
			return err
		}
		if err := c.nameMounts(cmd.Context(), filesystems, i.V.Shared); err != nil {
			return err
		}
		return p.show(i, i.V.details)
	})
	return cmd
}
