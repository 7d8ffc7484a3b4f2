package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const sshChallengesPath = "/v1/users/me/ssh-key-challenges"

// quietTime is for a signature that nobody is asked about; an agent may ask.
const quietTime = 10 * time.Second

// sshNamespace is what a proof is signed for, and for nothing else.
const sshNamespace = "ecolink-ssh-key"

// challengePattern is what may be signed, and shown for a shell.
var challengePattern = regexp.MustCompile(`^ecolink:[A-Za-z0-9@.+_:/-]{1,600}$`)

// keyAddition is what the flags of `ssh-key add` say.
type keyAddition struct {
	name, identity, signature string
}

// sshChallenge is what a key signs to prove that it is here.
type sshChallenge struct {
	Challenge string `json:"challenge"`
	Namespace string `json:"namespace"`
}

// run adds the key: with a proof, if one can be had without asking anybody; else
// without, if the key is free; else with one that may ask for a passphrase.
func (a keyAddition) run(cmd *cobra.Command, args []string, c *client) (key record[sshKey], err error) {
	text, path, err := publicKey(args, cmd.InOrStdin())
	if err != nil {
		return key, err
	}
	in := map[string]string{"public_key": text}
	if a.name != "" {
		in["name"] = a.name
	}
	add := func() (record[sshKey], error) {
		err := c.do(cmd.Context(), http.MethodPost, sshKeysPath, in, &key)
		return key, err
	}
	if a.signature != "" {
		if path == "-" && a.signature == "-" {
			return key, errors.New("standard input can't be the key and the signature: name a file for one of them")
		}
		if in["signature"], err = readPublicKey(a.signature, cmd.InOrStdin()); err != nil {
			return key, fmt.Errorf("--signature: %w", err)
		}
		return add()
	}
	var elsewhere *otherBoxError
	file := a.identity
	if file == "" && path != "-" {
		file = path
	}
	if file != "" && !strings.HasPrefix(text, "sk-") { // which wants to be touched
		challenge, err := askChallenge(cmd.Context(), c, text)
		if err != nil {
			return key, err
		}
		signature, err := challenge.sign(cmd, c, file, true)
		if err == nil {
			in["signature"] = signature
			return add()
		}
		errors.As(err, &elsewhere)
	}
	key, err = add()
	if err == nil && elsewhere != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "the key is not proved: %v. If so, set ECOLINK_URL (or log in) to the address with that name, and add the key again\n", elsewhere)
	}
	var refused *apiError
	if !errors.As(err, &refused) || refused.Status != http.StatusConflict {
		return key, err
	}
	// A challenge that is refused says better why; else a proof is what it wants.
	challenge, err := askChallenge(cmd.Context(), c, text)
	if err != nil {
		return key, err
	}
	if in["signature"], err = challenge.sign(cmd, c, file, false); err != nil {
		if path == "-" {
			path = "KEY.pub"
		}
		return key, &unprovenError{path: path, challenge: challenge, why: err, refused: refused}
	}
	return add()
}

func askChallenge(ctx context.Context, c *client, key string) (out sshChallenge, err error) {
	if err := c.do(ctx, http.MethodPost, sshChallengesPath, map[string]string{"public_key": key}, &out); err != nil {
		return out, err
	}
	if !challengePattern.MatchString(out.Challenge) || out.Namespace != sshNamespace {
		return out, errors.New("the box sent a challenge that is none: is it an EcoLink of this version?")
	}
	return out, nil
}

// sign has ssh-keygen sign the challenge with the key of a file, which may be the
// private half or the public one beside it or of an agent's. Quietly: nobody is
// asked for a passphrase.
func (ch sshChallenge) sign(cmd *cobra.Command, c *client, file string, quietly bool) (string, error) {
	if file == "" {
		return "", errors.New("the private half is not known here: name its file with --identity")
	}
	if err := ch.isFor(c.base); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "ecolink-proof-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	text := filepath.Join(dir, "challenge") // not by standard input: that is for a passphrase
	if err := os.WriteFile(text, []byte(ch.Challenge+"\n"), 0o600); err != nil {
		return "", err
	}
	ctx := cmd.Context()
	if quietly {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, quietTime)
		defer cancel()
	}
	keygen := exec.CommandContext(ctx, "ssh-keygen", "-Y", "sign", "-n", ch.Namespace, "-f", file, text)
	if quietly {
		// Without a terminal, it can't ask.
		keygen.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		keygen.Env = append(os.Environ(), "SSH_ASKPASS_REQUIRE=never")
	} else {
		keygen.Stdin, keygen.Stderr = cmd.InOrStdin(), cmd.ErrOrStderr()
	}
	if err := keygen.Run(); err != nil {
		return "", fmt.Errorf("ssh-keygen could not sign with %s: %w", file, err)
	}
	signature, err := os.ReadFile(text + ".sig")
	return string(signature), err
}

// isFor refuses to sign for another box than the one that is asked: that could be
// one that has this from there, to have the key in somebody's profile.
func (ch sshChallenge) isFor(base string) error {
	u, err := url.Parse(base)
	if err != nil {
		return err
	}
	box := strings.ToLower(strings.TrimPrefix(ch.Challenge, "ecolink:"))
	host, ok := strings.ToLower(u.Hostname()), false
	switch {
	case isLoopback(host):
		for _, own := range []string{"localhost:", "127.0.0.1:", "_::1_:"} {
			if strings.HasPrefix(box, own) {
				return nil
			}
		}
	case strings.Contains(host, ":"):
		ok = strings.HasPrefix(box, "_"+host+"_:") // as a challenge spells brackets
	default:
		ok = strings.HasPrefix(box, host+":")
	}
	if !ok || isLoopback(host) {
		return &otherBoxError{itself: strings.SplitN(box, ":", 2)[0], asked: u.Host}
	}
	return nil
}

// otherBoxError is a box that goes by another name than the one it was asked by.
type otherBoxError struct{ itself, asked string }

func (e *otherBoxError) Error() string {
	return fmt.Sprintf("the box calls itself %q, and you asked %q: make sure that it is the one you mean", e.itself, e.asked)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// unprovenError is a key that needs a proof which could not be made here.
type unprovenError struct {
	path      string
	challenge sshChallenge
	why       error
	refused   *apiError // by the API, without a proof
}

func (e *unprovenError) Error() string {
	return fmt.Sprintf(`the key is in a profile without a proof, and can be yours with one, which could not be made here (%v). Where its private half is, run

  echo %s | ssh-keygen -Y sign -n %s -f ~/.ssh/id_ed25519 > proof.sig

and then

  ecolink ssh-key add %s --signature proof.sig`, e.why, e.challenge.Challenge, e.challenge.Namespace, e.path)
}

func (e *unprovenError) Unwrap() error { return e.refused }
