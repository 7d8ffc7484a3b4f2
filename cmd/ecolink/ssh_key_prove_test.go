package main

import (
	"context"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

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
