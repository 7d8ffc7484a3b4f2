package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"ecolink/scheduler"
)

func TestUsageLinesSayWhichWordsMustBeThere(t *testing.T) {
	for use, want := range map[string]struct {
		needed []string
		most   int
	}{
		"get DRIVE:PATH [LOCAL]":    {[]string{"DRIVE:PATH"}, 2},
		"put LOCAL... DRIVE:[PATH]": {[]string{"LOCAL", "DRIVE:[PATH]"}, 2},
		"cap ID AMOUNT|none":        {[]string{"ID", "AMOUNT|none"}, 2},
		"service INSTANCE [--port P] [--public | --private | --off]": {[]string{"INSTANCE"}, 1},
		"launch --gpu-type T --image I --hours H [-- COMMAND…]":      {nil, 0},
		"correct ACCOUNT AMOUNT --reason R":                          {[]string{"ACCOUNT", "AMOUNT"}, 2},
		"ls":                                                         {nil, 0},
	} {
		if needed, most := words(use); !slices.Equal(needed, want.needed) || most != want.most {
			t.Errorf("%q: %q and %d at most, want %v", use, needed, most, want)
		}
	}
}

// Every command that wants words says so in its usage line, where the words for what
// is missing come from.
func TestEveryCommandsUsageLineFitsItsArguments(t *testing.T) {
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			look(sub)
		}
		needed, _ := words(cmd.Use)
		if cmd.Args == nil || !cmd.Runnable() || strings.Contains(cmd.Use, "-- ") || cmd.HasSubCommands() && len(needed) == 0 {
			return
		}
		if err := cmd.Args(cmd, make([]string, len(needed))); err != nil {
			t.Errorf("%s refuses as many words as its usage line names: %v", cmd.CommandPath(), err)
		}
		if len(needed) > 0 && cmd.Args(cmd, nil) == nil {
			t.Errorf("%s takes no words, and its usage line names %q", cmd.CommandPath(), needed)
		}
	}
	look(rootCommand())
}

// A field's name must lead to a flag that some command has; or else the table is old.
func TestFieldsOfTheAPIHaveFlagsThatExist(t *testing.T) {
	flags := map[string]bool{}
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			look(sub)
		}
		for _, names := range fieldFlags {
			for _, name := range names {
				flags[name] = flags[name] || cmd.Flags().Lookup(name) != nil
			}
		}
	}
	look(rootCommand())
	for name, exists := range flags {
		if !exists {
			t.Errorf("no command has the flag --%s", name)
		}
	}
}

func TestTheAPIsFieldsAreSaidInTheCommandsOwnWords(t *testing.T) {
	for _, c := range []struct{ field, want string }{
		{"estimated_duration_hours", "--hours"},
		{"gpu_type", "--gpu-type"},
		{"drives[0].id", "--drive"},
		{"drives[10].path", "11th --drive"},
		{"shared_filesystems[1]", "2nd --filesystem"},
		{"command", "the command behind --"},
		{"request_id", ""},
	} {
		if got := ownName(launchCommand(), c.field); got != c.want {
			t.Errorf("%s is called %q, want %q", c.field, got, c.want)
		}
	}
	if got := ownName(serviceCommand(), "service_port"); got != "--port" {
		t.Errorf("service_port of `instance service` is called %q", got)
	}
	told := inOwnWords(serviceCommand(), nil, &apiError{Status: 422, Param: "service_port", Message: "name what to change: service_port or service_public"})
	if want := "--port: name what to change: --port or --public"; told.Error() != want {
		t.Errorf("%q, want %q", told, want)
	}
	told = inOwnWords(launchCommand(), nil, &apiError{Status: 503, Message: "drives[0] is broken"})
	if told.Error() != "drives[0] is broken" {
		t.Errorf("a failure of the box became %q", told)
	}
}

// The words of a usage line mean nothing to who reads what is wrong with theirs.
func TestWhatTheAPIRefusesOfAnArgumentIsSaidOfWhatWasTyped(t *testing.T) {
	type row struct {
		use                  string
		args                 []string
		param, message, want string
	}
	for _, c := range []row{
		{"import FILE|-", []string{"x.tar"}, "file", "this is no file of images", "x.tar: this is no file of images"},
		{"import FILE|-", []string{"-"}, "file", "this is no file of images", "this is no file of images"},
		{"rm IMAGE", []string{"alpine:3"}, "image", "the image is in use", "alpine:3: the image is in use"},
		{"rm IMAGE", []string{"a\x1b[2Jb"}, "image", "the image is in use", "a [2Jb: the image is in use"},
		{"create NAME", []string{"data"}, "name", "drive 1 has this name: choose another", "data: drive 1 has this name: choose another"},
		{"create NAME", []string{"data"}, "name", "name: drive 1 has this name", "data: drive 1 has this name"},
		{"create NAME", []string{"data"}, "name", `there is a drive "data" already`, `there is a drive "data" already`},
		{"create NAME", []string{"-x"}, "name", "name begins with a letter", "-x begins with a letter"},
		{"cap KEY AMOUNT|none", []string{"2", "-1"}, "monthly_cap", "write it like 25.00", "-1: write it like 25.00"},
		{"cap KEY AMOUNT|none", []string{"2", "-1"}, "", "make monthly_cap 0 or more", "make the amount 0 or more"},
	} {
		told := inOwnWords(&cobra.Command{Use: c.use}, c.args, &apiError{Status: 422, Param: c.param, Message: c.message})
		if told.Error() != c.want {
			t.Errorf("%s %q: %q, want %q", c.use, c.args, told, c.want)
		}
	}
}

func TestTheListSaysWhyAStartCommandDidNotStart(t *testing.T) {
	until := time.Now().Add(90*time.Minute + 30*time.Second)
	i := instance{State: scheduler.Running, Deadline: &until, Notices: []string{"The start command could not start: /foo: no such file or directory. The instance goes on without it."}}
	if got := i.remark(); got != "The start command could not start: /foo: no such file or directory; 1h30m left" {
		t.Errorf("%q", got)
	}
}

func TestMoneyAndNumbersReadAsPeopleWriteThem(t *testing.T) {
	for amount, want := range map[string]string{"-5.00": "-$5.00", "3.20": "$3.20", "0.00": "$0.00", "2": "$2.00", "-5": "-$5.00", "0.000001": "$0.000001", "lots": "$lots"} {
		if got := dollars(amount); got != want {
			t.Errorf("%s reads %s", amount, got)
		}
	}
	for n, want := range map[int]string{0: "0 rows", 1: "1 row", 2: "2 rows"} {
		if got := count(n, "row"); got != want {
			t.Errorf("%d reads %q", n, got)
		}
	}
}
