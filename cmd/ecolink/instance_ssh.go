package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ecolink/web"
)

// sshServer is where the box answers SSH.
type sshServer struct {
	Enabled bool   `json:"enabled"`
	Host    string `json:"host"`
	Port    int    `json:"port"`
	HostKey string `json:"host_key"`
}

func (s sshServer) address() web.SSHAddress {
	return web.SSHAddress{Host: s.Host, Port: s.Port, HostKey: s.HostKey}
}

func sshCommand() *cobra.Command {
	var session string
	cmd := &cobra.Command{
		Use:   "ssh INSTANCE [-- ARG…]",
		Short: "Enter a running instance with this computer's ssh",
		Long: `Enter a running instance with this computer's ssh, which must have a key that
opens it: see ` + "`ecolink ssh-key`" + ` and --ssh-key of ` + "`ecolink instance launch`" + `. What is
behind -- goes to ssh: its options, and a command to run.

A shell is a terminal session of the instance: what runs in it goes on when the
connection breaks, and --session enters it again, or the one that the browser shows
("main"). A shell that was at its prompt, with nothing left running, ends.`,
		Example: `  ecolink instance ssh llm
  ecolink instance ssh llm --session main
  ecolink instance ssh llm -- -L 8888:localhost:8888 -N
  ecolink instance ssh llm -- nvidia-smi`,
		Args:              commandBehindDash(1),
		ValidArgsFunction: completeInstance,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, i, err := onInstance(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			argv, err := c.sshArguments(cmd.Context(), i.V, session, args[1:])
			if err != nil {
				return err
			}
			path, err := exec.LookPath("ssh")
			if err != nil {
				return errors.New("there is no ssh on this computer: install OpenSSH's client, or use `ecolink instance terminal`")
			}
			return fmt.Errorf("run %s: %w", path, syscall.Exec(path, argv, os.Environ())) // ssh takes our place
		},
	}
	cmd.Flags().StringVar(&session, "session", "", "terminal session to enter; a new one when empty")
	return cmd
}

// sshArguments are those of an ssh that knows the box's host key.
func (c *client) sshArguments(ctx context.Context, i instance, session string, args []string) ([]string, error) {
	var server sshServer
	if err := c.do(ctx, http.MethodGet, "/v1/ssh", nil, &server); err != nil {
		return nil, err
	}
	if !server.Enabled {
		return nil, errors.New("this box does not answer SSH: the operator turns it on with --ssh-listen; `ecolink instance terminal` works all the same")
	}
	known, err := saveHostKey(server.address())
	if err != nil {
		return nil, fmt.Errorf("remember the box's host key: %w", err)
	}
	user := strconv.FormatInt(i.ID, 10)
	if session != "" {
		user += "+" + session
	}
	return append([]string{
		"ssh", "-p", strconv.Itoa(server.Port),
		"-o", `UserKnownHostsFile="` + known + `"`, "-o", "StrictHostKeyChecking=yes", user + "@" + server.Host,
	}, args...), nil
}

var notInFileNames = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// saveHostKey writes the box's host key into a file for ssh, beside the log-in: it
// came over the API's connection, so that nobody has to compare fingerprints.
func saveHostKey(a web.SSHAddress) (path string, err error) {
	login, err := profilePath()
	if err != nil {
		return "", err
	}
	name := strings.Trim(notInFileNames.ReplaceAllString(a.Name(), "_"), "_")
	path = filepath.Join(filepath.Dir(login), "known_hosts."+name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(a.Name()+" "+a.HostKey+"\n"), 0o600)
}
