package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var negativeNumber = regexp.MustCompile(`^-[0-9]+(\.[0-9]*)?$`)

// withNegativeNumbers has numbers below zero taken as what they are, and not for
// flags: they go behind "--". One that follows a flag is that flag's value.
func withNegativeNumbers(args []string) []string {
	if slices.Contains(args, "--") {
		return args
	}
	var out, numbers []string
	for n, arg := range args {
		afterFlag := n > 0 && strings.HasPrefix(args[n-1], "-") && !strings.Contains(args[n-1], "=") && !negativeNumber.MatchString(args[n-1])
		if negativeNumber.MatchString(arg) && !afterFlag {
			numbers = append(numbers, arg)
		} else {
			out = append(out, arg)
		}
	}
	if numbers == nil {
		return args
	}
	return append(append(out, "--"), numbers...)
}

// strict has every command below refuse what cobra lets pass: a subcommand that
// does not exist, and a flag that is given without a value, as by a script whose
// variable is not set. What is refused is said in our own words, here and below.
func strict(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.SetFlagErrorFunc(explainFlag)
		cmd.Args = cobra.ArbitraryArgs // or cobra answers itself what is no command
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noCommand(cmd, args[0])
			}
			return cmd.Help()
		}
		return
	}
	if run := cmd.RunE; run != nil {
		ownWords(cmd)
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := noEmptyFlag(cmd.Flags()); err != nil {
				return err
			}
			return inOwnWords(cmd, args, run(cmd, args))
		}
	}
}

func noEmptyFlag(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && err == nil {
			err = misuse("--%s has no value: leave it out, or give it one", f.Name)
		}
	})
	return err
}
