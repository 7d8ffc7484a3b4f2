// Command ecolink is the whole of EcoLink: `ecolink serve` runs the box, the
// other commands talk to one. This package only wires and parses; what things
// do is in the packages that it calls.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "dev"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	root.SetArgs(withNegativeNumbers(os.Args[1:]))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return int(interrupted) // the user knows
	}
	fmt.Fprintln(os.Stderr, "ecolink:", err)
	var refused *apiError
	if errors.As(err, &refused) {
		return refused.exitCode()
	}
	if errors.As(err, new(*usageError)) {
		return 2
	}
	if errors.As(err, new(*commandFailedError)) {
		return 7
	}
	return 1
}

// rootCommand is all that can be typed.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "ecolink",
		Short:         "A GPU cloud in one box",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand(), adminCommand(), ledgerCommand(), loginCommand(), gpusCommand(), imagesCommand(), instanceCommand(), storageCommand(cloudDrives), storageCommand(filesystems), filesCommand(), billingCommand(), keyCommand(), sshKeyCommand(), registryCommand(), imageCommand(), backupCommand(), restoreCommand(), doctorCommand(), exitCodesTopic())
	strict(root)
	return root
}

// interrupted is the exit code of a command that ctrl-C or SIGTERM has ended.
const interrupted exitCode = 130

// exitCode ends the program silently with a status of its own.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }
