package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const sshKeysPath = "/v1/users/me/ssh-keys"

// maxKeyFile is far more than a public key has.
const maxKeyFile = 64 << 10

type sshKey struct {
	ID          int64      `json:"id"`
	Name        string     `json:"name"`
	Type        string     `json:"type"`
	Fingerprint string     `json:"fingerprint"`
	ThisAccount bool       `json:"this_account"`
	CreatedAt   *time.Time `json:"created_at"`
	ProvenAt    *time.Time `json:"proven_at"`
	LastUsedAt  *time.Time `json:"last_used_at"`
}

// proven says whether the key can be lost to another who has it.
func (k sshKey) proven() string {
	if k.ProvenAt == nil {
		return "no"
	}
	return "yes"
}

// opens says what a key is good for.
func (k sshKey) opens() string {
	if k.ThisAccount {
		return "this account"
	}
	return "all your accounts"
}

func sshKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ssh-key",
		Short: "Add, list and remove the public keys that open your instances by SSH",
		Long: `Add, list and remove the public keys that open your instances by SSH.

They belong to the user who made the API key. One that is added here opens the
instances of the API key's account; one that is added in the console, those of all
accounts that you are in.`,
	}
	cmd.AddCommand(sshKeyListCommand(), sshKeyAddCommand(), sshKeyRemoveCommand())
	return cmd
}

func sshKeyListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List your SSH keys", Args: cobra.NoArgs}
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		var keys page[sshKey]
		if err := c.do(cmd.Context(), http.MethodGet, sshKeysPath, nil, &keys); err != nil {
			return err
		}
		return p.show(keys.Data, func(w io.Writer) {
			row(w, "ID", "NAME", "TYPE", "FINGERPRINT", "OPENS", "PROVED", "ADDED", "LAST USED")
			for _, k := range keys.Data {
				row(w, k.V.ID, k.V.Name, k.V.Type, k.V.Fingerprint, k.V.opens(), k.V.proven(), moment(k.V.CreatedAt), moment(k.V.LastUsedAt))
			}
		})
	})
	return cmd
}

func sshKeyAddCommand() *cobra.Command {
	var add keyAddition
	cmd := &cobra.Command{
		Use:   "add [FILE]",
		Short: "Add a public key; without a file, the first that ssh would use",
		Long: `Add a public key; without a file, the first that ssh would use.

Where it can, it proves that you have the private half, by a signature that
ssh-keygen makes with the file beside, or with your agent. Nobody can take a key
from you that you have proved, and you take one so that another has put into
their profile. The private half stays where it is. Adding a key again proves one
that was not yet.`,
		Example: `  ecolink ssh-key add
  ecolink ssh-key add ~/.ssh/id_ed25519.pub --name laptop
  ecolink ssh-key add laptop.pub --identity /media/stick/laptop
  curl https://example.org/me.keys | ecolink ssh-key add -`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(&add.name, "name", "", "what to call it; the key's own comment when empty")
	cmd.Flags().StringVarP(&add.identity, "identity", "i", "", "file of the private half, when it is not beside the public one nor in your agent")
	cmd.Flags().StringVar(&add.signature, "signature", "", "file of a signature that was made elsewhere, - for standard input")
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		key, err := add.run(cmd, args, c)
		if err != nil {
			return err
		}
		return p.show(key, func(w io.Writer) {
			proved := ""
			if key.V.ProvenAt != nil {
				proved = ", and proved that it is yours"
			}
			fmt.Fprintf(w, "added key %d (%s), %s%s\n", key.V.ID, printable(key.V.Name), key.V.Fingerprint, proved)
		})
	})
	return cmd
}

// publicKey reads the file that is named, - for standard input, or that ssh would
// take; path says which that was.
func publicKey(args []string, stdin io.Reader) (text, path string, err error) {
	if len(args) == 0 {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", "", err
		}
		for _, name := range []string{"id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk", "id_rsa"} { // ssh's own order, the best first
			path = filepath.Join(home, ".ssh", name+".pub")
			if text, err = readPublicKey(path, stdin); !errors.Is(err, os.ErrNotExist) {
				return text, path, err
			}
		}
		return "", "", errors.New("there is no public key in ~/.ssh: make one with `ssh-keygen -t ed25519`, or name a file")
	}
	text, err = readPublicKey(args[0], stdin)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w, or make a key with `ssh-keygen -t ed25519`", err)
	}
	return text, args[0], err
}

func readPublicKey(path string, stdin io.Reader) (string, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", cannotRead(path, err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxKeyFile+1))
	if err != nil {
		return "", cannotRead(path, err) // a folder, say
	}
	if len(raw) > maxKeyFile {
		return "", fmt.Errorf("%s is no public key: it is too large", path)
	}
	if strings.Contains(string(raw), "PRIVATE KEY-----") { // it must not even be sent
		return "", fmt.Errorf("%s is a private key, which must not leave this computer: name the one that ends in .pub", path)
	}
	return string(raw), nil
}

func sshKeyRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "remove ID",
		Aliases: []string{"rm"},
		Short:   "Remove a public key: connections that it opened are closed",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return misuse("%q is not a key's number: `ecolink ssh-key ls` shows them", args[0])
			}
			c, err := newClient()
			if err != nil {
				return err
			}
			if err := c.do(cmd.Context(), http.MethodDelete, fmt.Sprintf("%s/%d", sshKeysPath, id), nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed key %d\n", id)
			return nil
		},
	}
}
