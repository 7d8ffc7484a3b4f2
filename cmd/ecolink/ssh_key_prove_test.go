package main

import (
	"context"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// claims FILE: Eve has put the public key of a file into her profile.
func scriptClaims(ts *testscript.TestScript, neg bool, args []string) {
	err := boxOf(ts).store.Update(context.Background(), func(tx *store.Tx) error {
		eve, err := identity.UserByEmail(tx, "eve@example.org")
		if err != nil {
			if eve, err = identity.CreateUser(tx, identity.NewUser{Email: "eve@example.org"}, time.Now()); err != nil {
				return err
			}
		}
		_, err = identity.AddSSHKey(tx, eve.ID, 0, "", ts.ReadFile(args[0]), time.Now())
		return err
	})
	if (err != nil) != neg {
		ts.Fatalf("Eve's claim: %v", err)
	}
}

// A box must not get a signature that another box would take.
func TestTheCLISignsForTheBoxThatItAsksAlone(t *testing.T) {
	for _, c := range []struct {
		base, box string
		signs     bool
	}{
		{"https://gpu.example.org", "gpu.example.org", true},
		{"https://GPU.example.org:8443", "gpu.example.org", true},
		{"http://gpu.example.org:7070", "gpu.example.org:7070", true},
		{"http://127.0.0.1:7070", "localhost", true},
		{"http://localhost:9000", "127.0.0.1:7070", true},
		{"http://[::1]:7070", "_::1_:7070", true},
		{"http://[2001:db8::1]:7070", "_2001:db8::1_:7070", true},
		{"https://evil.example.org", "gpu.example.org", false},
		{"https://gpu.example.org", "gpu.example.org.evil.net", false},
		{"https://example.org", "gpu.example.org", false},
		{"http://127.0.0.1:7070", "gpu.example.org", false},
		{"http://192.0.2.1:7070", "127.0.0.1:7070", false},
	} {
		ch := sshChallenge{Challenge: "ecolink:" + c.box + ":ana@example.org:SHA256:x:y", Namespace: sshNamespace}
		if err := ch.isFor(c.base); (err == nil) != c.signs {
			t.Errorf("%s with a challenge of %s: %v", c.base, c.box, err)
		}
	}
}

// Else one would believe that nobody can take the key.
func TestAKeyThatIsAddedByAnotherNameOfTheBoxIsSaidNotToBeProved(t *testing.T) {
	b := newBox(t)
	file := filepath.Join(t.TempDir(), "laptop")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	toBox := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(b.url, "http://"))
	}}
	t.Cleanup(toBox.CloseIdleConnections)
	for _, by := range []struct {
		base   string
		proved bool
	}{{"http://box.example.org", false}, {"http://127.0.0.1", true}} {
		var told strings.Builder
		cmd := &cobra.Command{}
		cmd.SetContext(t.Context())
		cmd.SetErr(&told)
		key, err := keyAddition{}.run(cmd, []string{file + ".pub"}, &client{base: by.base, key: b.key, http: &http.Client{Transport: toBox}})
		if err != nil || (key.V.ProvenAt != nil) != by.proved {
			t.Errorf("%s: %+v, %v", by.base, key.V, err)
		}
		why := `the key is not proved: the box calls itself "127.0.0.1", and you asked "box.example.org"`
		if by.proved && told.Len() > 0 || !by.proved && (!strings.HasPrefix(told.String(), why) || strings.Count(told.String(), "\n") != 1) {
			t.Errorf("%s: it says %q", by.base, told.String())
		}
	}
}

func TestAChallengeThatAShellWouldReadIsNotShown(t *testing.T) {
	for text, good := range map[string]bool{
		"ecolink:gpu.example.org:ana@example.org:SHA256:a/b+c:d_e-f": true,
		"ecolink:x;rm -rf": false, "ecolink:$(x)": false, "ecolink:`x`": false, "ecolink:a\nb": false, "x:y": false,
	} {
		if challengePattern.MatchString(text) != good {
			t.Errorf("%q", text)
		}
	}
}
