package secrets

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func open(t *testing.T, path string) *Keyring {
	t.Helper()
	k, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSecretOpensWithItsKeyAndItsOwnRecordAlone(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "key"))
	rapid.Check(t, func(t *rapid.T) {
		secret, about := rapid.String().Draw(t, "secret"), rapid.String().Draw(t, "about")
		sealed, err := k.Seal(secret, about)
		if err != nil {
			t.Fatal(err)
		}
		if len(secret) > 3 && strings.Contains(string(sealed), secret) {
			t.Fatal("the secret can be read")
		}
		if got, err := k.Open(sealed, about); err != nil || got != secret {
			t.Fatalf("%q, %v", got, err)
		}
		if _, err := k.Open(sealed, about+"x"); err == nil {
			t.Fatal("it opened about something else")
		}
		n := rapid.IntRange(9, len(sealed)-1).Draw(t, "changed")
		other := []byte(sealed)
		other[n] ^= 1
		if got, err := k.Open(Sealed(other), about); err == nil && got != secret {
			t.Fatalf("a changed text opened as %q", got)
		}
	})
}

func TestKeyIsMadeOnceAndStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	sealed, err := open(t, path).Seal("hunter2", "a")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, path).Open(sealed, "a"); err != nil || got != "hunter2" {
		t.Fatalf("%q, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
}

func TestLostKeySaysWhereToPutItBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	sealed, err := open(t, path).Seal("hunter2", "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, path).Open(sealed, "a")
	if !errors.Is(err, ErrOtherKey) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v", err)
	}
}

func TestKeyFileThatOthersMayReadOrThatIsDamagedIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	open(t, path)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Fatalf("got %v", err)
	}
	if err := errors.Join(os.WriteFile(path, []byte("short"), 0o600), os.Chmod(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Fatalf("got %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	k, err := Open(filepath.Join(f.TempDir(), "key"))
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := k.Seal("hunter2", "a")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(sealed))
	f.Add(".")
	f.Add("abcd.")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := k.Open(Sealed(text), "a"); err == nil && got != "hunter2" {
			t.Fatalf("%q opened as %q", text, got)
		}
	})
}
