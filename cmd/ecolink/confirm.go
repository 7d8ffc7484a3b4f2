package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// loss is what a command destroys for good.
type loss struct {
	happens string // in a sentence: "drive 1 (data) is deleted with all that is in it"
	whose   string // the name that a person types to agree: "its name"
}

// deletes is the loss of something with all that is in it.
func deletes(what string) loss { return loss{what + " is deleted with all that is in it", "its name"} }

// confirming gives a command that destroys something the flag --yes, and a function
// that makes sure that it is meant: without the flag, a person types a name.
func confirming(cmd *cobra.Command) func(l loss, name string) error {
	yes := cmd.Flags().Bool("yes", false, "don't ask")
	return func(l loss, name string) error {
		if *yes {
			return nil
		}
		return askForName(cmd, l, name)
	}
}

// askForName has a person at a terminal type the name of what is to be destroyed.
func askForName(cmd *cobra.Command, l loss, name string) error {
	if in, ok := cmd.InOrStdin().(*os.File); !ok || !term.IsTerminal(int(in.Fd())) {
		return misuse("nothing is done yet: with it, %s: say --yes, since nobody is here to be asked", l.happens)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "With this, %s. Type %s to go on: ", l.happens, l.whose)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != name {
		return errors.New("that is not the name: nothing was changed")
	}
	return nil
}
