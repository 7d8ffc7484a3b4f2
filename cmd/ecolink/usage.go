package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is a command line that can't be meant: the exit code is 2. Its words
// are ours, and end with what to write instead.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func misuse(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exitCodesTopic is `ecolink help exit-codes`. See [apiError.exitCode] and run.
func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `What the exit codes mean:

    0  it is done
    1  it failed: the box does not answer, something broke, or doctor found something
    2  wrong usage: a command, flag or value that can't be; nothing was done
    3  the money does not suffice
    4  there is no such thing
    5  it can't be done now: it is in use, over, or the name is taken
    6  not logged in, or not allowed
    7  launched, but the start command failed: the instance goes on, and is paid for
  130  interrupted by ctrl-C

ecolink instance exec and ecolink instance ssh end with the exit code of the
program that they run.`,
	}
}

// ownWords has a command say in our words what cobra would say in its own.
func ownWords(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(explainFlag)
	if strings.Contains(cmd.Use, "-- ") {
		cmd.Flags().AddFlag(&pflag.Flag{Name: "help", Shorthand: "h", Usage: "help for " + cmd.Name(), Value: &ownHelp{cmd: cmd}, DefValue: "false", NoOptDefVal: "true"})
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			return explainArguments(cmd, args, check(cmd, args))
		}
	}
	// cobra checks these itself, after PreRunE.
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := explainMissing(cmd, cmd.ValidateRequiredFlags()); err != nil {
			return err
		}
		return explainTogether(cmd, cmd.ValidateFlagGroups())
	}
}

// ownHelp is --help of a command that takes another one behind "--". Behind words that
// are the other's, where "--" was left out, it is the other's too.
type ownHelp struct {
	cmd   *cobra.Command
	asked bool
}

// String, Type and Set implement pflag.Value.
func (h *ownHelp) String() string { return strconv.FormatBool(h.asked) }

func (h *ownHelp) Type() string { return "bool" }

func (h *ownHelp) Set(s string) (err error) {
	if err := othersWords(h.cmd); err != nil {
		return err
	}
	h.asked, err = strconv.ParseBool(s)
	return err
}

// othersWords refuses a flag behind words that are another command's: a flag is read
// when the words before it were.
func othersWords(cmd *cobra.Command) error {
	_, most := words(cmd.Use)
	if typed := cmd.Flags().Args(); strings.Contains(cmd.Use, "-- ") && len(typed) > most {
		return commandBehindDash(most)(cmd, typed)
	}
	return nil
}

// explainFlag says what is wrong with one flag.
func explainFlag(cmd *cobra.Command, err error) error {
	if errors.As(err, new(*usageError)) {
		return err
	}
	if err := othersWords(cmd); err != nil {
		return err
	}
	var absent *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &absent):
		written := "--" + absent.GetSpecifiedName()
		if absent.GetSpecifiedShortnames() != "" {
			written = "-" + absent.GetSpecifiedName()
		}
		return misuse("%s has no flag %s%s: `%s --help` lists them", cmd.CommandPath(), written, similar(nearFlags(cmd, absent.GetSpecifiedName())), cmd.CommandPath())
	case errors.As(err, &bare):
		return misuse("--%s has no value: give it one, as `%s --help` shows", bare.GetFlag().Name, cmd.CommandPath())
	case errors.As(err, &invalid):
		return misuse("--%s %s is not %s: see `%s --help`", invalid.GetFlag().Name, invalid.GetValue(), kindWords(invalid), cmd.CommandPath())
	default:
		return misuse("%v: see `%s --help`", err, cmd.CommandPath())
	}
}

// kindWords says what a flag's value should have been.
func kindWords(e *pflag.InvalidValueError) string {
	switch kind := e.GetFlag().Value.Type(); kind {
	case "int", "int64":
		return "a whole number"
	case "uint", "uint64":
		return "a whole number, 0 or more"
	case "uint8":
		return "a whole number from 0 to 255"
	case "uint16":
		return "a whole number from 0 to 65535"
	case "uint32":
		return "a whole number from 0 to 4294967295"
	case "float64":
		return "a number such as 2 or 1.5"
	case "duration":
		return "a length of time such as 30s, 10m or 2h"
	case "bool":
		return "true or false"
	default:
		return fmt.Sprintf("possible (%v)", e.Unwrap())
	}
}

// nearFlags are the flags that a mistyped one may have meant.
func nearFlags(cmd *cobra.Command, typed string) (near []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if len(typed) > 2 && !f.Hidden && (strings.HasPrefix(f.Name, typed) || strings.HasPrefix(typed, f.Name) || distance(f.Name, typed) <= 2) {
			near = append(near, "--"+f.Name)
		}
	})
	return near
}

// distance is how many letters are to be put in, taken out or changed to make one
// word of another (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func similar(near []string) string {
	if len(near) == 0 {
		return ""
	}
	return " (did you mean " + strings.Join(near, " or ") + "?)"
}

func noCommand(cmd *cobra.Command, typed string) error {
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2 // cobra sets it only when it looks itself
	}
	return misuse("%s has no command %q%s: `%s --help` lists them", cmd.CommandPath(), typed, similar(cmd.SuggestionsFor(typed)), cmd.CommandPath())
}

// explainArguments says which word is missing or too many. What a command of ours
// said itself stays.
func explainArguments(cmd *cobra.Command, args []string, err error) error {
	if err == nil || errors.As(err, new(*usageError)) {
		return err
	}
	needed, most := words(cmd.Use)
	switch {
	case cmd.HasSubCommands() && most == 0 && len(args) > 0:
		return noCommand(cmd, args[0])
	case len(args) < len(needed):
		return misuse("%s is missing: write `%s`", needed[len(args)], usageLine(cmd))
	case len(args) > most:
		return misuse("%q is one word too many: write `%s`", args[most], usageLine(cmd))
	default:
		return misuse("%v: write `%s`", err, usageLine(cmd))
	}
}

var argumentWord = regexp.MustCompile(`^\[?[A-Z][A-Z0-9_-]*(:\[?[A-Z]+\]?)?(\|[a-z-]+)*(…|\.\.\.)?\]?$`)

// words finds the arguments in a usage line such as "get DRIVE:PATH [FILE]": those
// that must be there, and how many there can be. Flags and their values, and what
// comes behind --, are none.
func words(use string) (needed []string, most int) {
	flag := false
	for _, word := range strings.Fields(use)[1:] {
		bare := strings.Trim(word, "[]")
		if bare == "--" {
			break
		}
		if strings.HasPrefix(bare, "-") || word == "|" {
			flag = !strings.HasSuffix(word, "]")
			continue
		}
		if flag || !argumentWord.MatchString(word) {
			flag = false
			continue
		}
		most++
		if !strings.HasPrefix(word, "[") {
			needed = append(needed, strings.TrimRight(word, "….")) // one of several is missing
		}
	}
	return needed, most
}

// usageLine is how the command is written, without cobra's "[flags]".
func usageLine(cmd *cobra.Command) string {
	return strings.TrimSuffix(cmd.UseLine(), " [flags]")
}

func explainMissing(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	var missing []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Changed && slices.Equal(f.Annotations[cobra.BashCompOneRequiredFlag], []string{"true"}) {
			missing = append(missing, "--"+f.Name)
		}
	})
	if len(missing) == 1 {
		return misuse("%s is missing: `%s --help` says what it is", missing[0], cmd.CommandPath())
	}
	return misuse("%s are missing: `%s --help` says what they are", listed(missing, "and"), cmd.CommandPath())
}

// exclusiveFlags is where cobra notes MarkFlagsMutuallyExclusive; it has no name
// for it that others may use.
const exclusiveFlags = "cobra_annotation_mutually_exclusive"

func explainTogether(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	together := map[string][]string{} // by their group
	cmd.Flags().Visit(func(f *pflag.Flag) {
		for _, group := range f.Annotations[exclusiveFlags] {
			together[group] = append(together[group], "--"+f.Name)
		}
	})
	for _, set := range together {
		if len(set) > 1 {
			return misuse("%s can't be together: choose one of them", listed(set, "and"))
		}
	}
	return misuse("%v: see `%s --help`", err, cmd.CommandPath())
}

// listed writes "a", "a and b", "a, b and c".
func listed(all []string, last string) string {
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " " + last + " " + all[len(all)-1]
}
