package keeper

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// someBuild stands for an embedded folder; its binary says its version.
func someBuild(version string) fs.FS {
	script := "#!/bin/sh\necho " + version + "\n#" + strings.Repeat("x", 100_000) + "\n"
	return fstest.MapFS{binaryName: {Data: []byte(script)}, "README": {Data: []byte("text")}}
}

func mustInstall(t *testing.T, files fs.FS, dir string) string {
	t.Helper()
	path, err := install(files, binaryName, dir)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func mustSay(t *testing.T, path, want string) {
	t.Helper()
	output, err := exec.Command(path).CombinedOutput()
	if err != nil || string(output) != want+"\n" {
		t.Fatalf("%s says %q, %v; want %s", path, output, err, want)
	}
}

func mustHold(t *testing.T, dir string, count int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != count {
		t.Fatalf("the folder holds %v, want %d files", entries, count)
	}
}

func TestInstallGivesAnExecutableNamedByItsContents(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	first := mustInstall(t, someBuild("1"), dir)
	if !regexp.MustCompile(`^ecolink-keeper-[0-9a-f]{12}$`).MatchString(filepath.Base(first)) || filepath.Dir(first) != dir {
		t.Fatalf("installed as %s", first)
	}
	mustSay(t, first, "1")
	second := mustInstall(t, someBuild("2"), dir)
	mustSay(t, second, "2")
	mustSay(t, first, "1") // containers of the older version go on
	mustHold(t, dir, 2)
}

func TestInstallingAgainChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := mustInstall(t, someBuild("1"), dir)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if again := mustInstall(t, someBuild("1"), dir); again != path {
		t.Fatalf("installed as %s and %s", path, again)
	}
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Fatalf("the file was replaced: %v", err)
	}
}

func TestADamagedFileIsReplaced(t *testing.T) {
	damage := map[string]func(path string) error{
		"cut short": func(path string) error { return os.Truncate(path, 100) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"zeros at the end": func(path string) error {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			clear(content[len(content)-4096:])
			return os.WriteFile(path, content, 0o755)
		},
		"not executable": func(path string) error { return os.Chmod(path, 0o644) },
		"a link": func(path string) error {
			elsewhere := path + "-elsewhere"
			return errors.Join(os.Rename(path, elsewhere), os.Symlink(elsewhere, path))
		},
	}
	for name, break_ := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := mustInstall(t, someBuild("1"), dir)
			if err := break_(path); err != nil {
				t.Fatal(err)
			}
			if again := mustInstall(t, someBuild("1"), dir); again != path {
				t.Fatalf("installed as %s and %s", path, again)
			}
			mustSay(t, path, "1")
			if info, err := os.Lstat(path); err != nil || info.Mode() != 0o755 {
				t.Fatalf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestConcurrentInstallsLeaveOneWholeFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	build := someBuild("1")
	want, err := fs.ReadFile(build, binaryName)
	if err != nil {
		t.Fatal(err)
	}
	path := mustInstall(t, build, dir)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				got, err := install(build, binaryName, dir)
				if err != nil || got != path {
					t.Errorf("installed as %s, %v", got, err)
				}
				// Whatever the others do, the name stands for a whole file, or
				// for none after one of us has removed it.
				content, err := os.ReadFile(path)
				if err == nil && !bytes.Equal(content, want) {
					t.Errorf("%d bytes of %d", len(content), len(want))
				}
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	mustInstall(t, build, dir)
	mustSay(t, path, "1")
	mustHold(t, dir, 1)
}

func TestABuildWithoutTheBinarySaysHowToGetOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	path, err := install(fstest.MapFS{"README": {}}, binaryName, dir)
	if path != "" || !errors.Is(err, ErrNotBuilt) || !strings.Contains(err.Error(), "make generate") {
		t.Fatalf("got %q, %v", path, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the folder was made: %v", err)
	}
}

func TestAFolderThatCannotBeMadeIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if path, err := install(someBuild("1"), binaryName, filepath.Join(file, "dir")); path != "" || err == nil {
		t.Fatalf("got %q, %v", path, err)
	}
}

// TestTheEmbeddedBinaryRuns needs `make generate`, as the build does.
func TestTheEmbeddedBinaryRuns(t *testing.T) {
	path, err := Install(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(path).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(output), "usage: ecolink-keeper") {
		t.Fatalf("got %v: %s", err, output)
	}
}

func TestTheEmbeddedSFTPServerRuns(t *testing.T) {
	path, err := InstallSFTP(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// To SSH_FXP_INIT of version 3 it answers SSH_FXP_VERSION. Only then comes the
	// end, at which it drops what it has not sent.
	_, err = in.Write([]byte("\x00\x00\x00\x05\x01\x00\x00\x00\x03"))
	answer := make([]byte, 9)
	_, reading := io.ReadFull(out, answer)
	if err = errors.Join(err, reading, in.Close(), cmd.Wait()); err != nil || answer[4] != 2 || answer[8] != 3 {
		t.Fatalf("got %v: %q", err, answer)
	}
}
