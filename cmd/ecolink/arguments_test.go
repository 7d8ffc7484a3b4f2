package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestNumbersBelowZeroAreNoFlags(t *testing.T) {
	for in, want := range map[string]string{
		"admin correct 1 -5.00 --reason twice":   "admin correct 1 --reason twice -- -5.00",
		"admin correct 1 --reason twice -5":      "admin correct 1 --reason twice -- -5",
		"admin correct --reason=twice 1 -5":      "admin correct --reason=twice 1 -- -5",
		"admin correct --reason twice -- 1 -5":   "admin correct --reason twice -- 1 -5",
		"instance extend trainer --hours -1":     "instance extend trainer --hours -1",
		"billing transactions --limit 5 -o json": "billing transactions --limit 5 -o json",
		"instance exec trainer -- head -5 x":     "instance exec trainer -- head -5 x",
	} {
		if got := withNegativeNumbers(strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestMistypedSubcommandAndFlagWithoutAValueAreRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"admin", "tpoup", "1", "25"}, `no command "tpoup"`},
		{[]string{"admin", "topup", "1", "25", "--key", ""}, "--key has no value"},
	} {
		root := &cobra.Command{Use: "ecolink", SilenceUsage: true, SilenceErrors: true}
		root.AddCommand(adminCommand())
		strict(root)
		root.SetArgs(c.args)
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}
