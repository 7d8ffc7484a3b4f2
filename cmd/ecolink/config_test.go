package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func parse(t *testing.T, file string, env map[string]string, args ...string) (serveConfig, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ecolink.toml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	var c serveConfig
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	c.flags(f)
	if err := f.Parse(append(args, "--config", path)); err != nil {
		t.Fatal(err)
	}
	return c, fill(f, func(k string) (string, bool) { v, ok := env[k]; return v, ok })
}

func TestFlagWinsOverVariableAndVariableOverFile(t *testing.T) {
	file := "listen = \"file:1\"\nbridge = \"file0\"\ngpus = \"file\"\nwarm_networks = 9\ndns = [\"10.0.0.1\", \"10.0.0.2\"]\n"
	env := map[string]string{"ECOLINK_LISTEN": "env:1", "ECOLINK_BRIDGE": "env0"}
	c, err := parse(t, file, env, "--listen", "flag:1")
	if err != nil {
		t.Fatal(err)
	}
	if c.listen != "flag:1" || c.bridge != "env0" || c.gpus != "file" || c.warm != 9 || strings.Join(c.dns, " ") != "10.0.0.1 10.0.0.2" {
		t.Fatalf("%+v", c)
	}
}

func TestUnknownKeyAndBadValueAreErrorsThatNameThem(t *testing.T) {
	_, err := parse(t, "lisen = \"x\"\nwarm_networks = \"many\"\n", nil)
	if err == nil || !strings.Contains(err.Error(), `"lisen"`) || !strings.Contains(err.Error(), "warm_networks") {
		t.Fatalf("got %v", err)
	}
}

func TestMissingFileIsFineOnlyWhereNobodyNamedIt(t *testing.T) {
	var c serveConfig
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	c.flags(f)
	f.Lookup("config").Value.Set("/nonexistent/ecolink.toml")
	none := func(string) (string, bool) { return "", false }
	if err := fill(f, none); err != nil {
		t.Fatal(err)
	}
	f.Set("config", "/nonexistent/ecolink.toml")
	if err := fill(f, none); err == nil {
		t.Fatal("a file that was asked for is missing and nobody said so")
	}
}

func TestBlockedRangesComeFromFileAndFlagAndAreChecked(t *testing.T) {
	for file, args := range map[string][]string{
		"block = [\"192.168.0.0/16\", \"10.1.0.0/24\"]\n": nil,
		"": {"--block", "192.168.0.0/16,10.1.0.0/24"},
	} {
		c, err := parse(t, file, nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := networkConfig(c, nil)
		if err != nil || len(cfg.Block) != 2 || cfg.Block[0].String() != "192.168.0.0/16" || cfg.Block[1].String() != "10.1.0.0/24" {
			t.Errorf("%q %v: %v, %v", file, args, cfg.Block, err)
		}
	}
	c, err := parse(t, "", nil, "--block", "192.168.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := networkConfig(c, nil); err == nil || !strings.Contains(err.Error(), "--block 192.168.0.0: write an IPv4 range like 192.168.0.0/16") {
		t.Errorf("got %v", err)
	}
}

func TestSettingsThatCanNotBeAreWrongUsageInWords(t *testing.T) {
	for _, bad := range []struct{ flag, value, want string }{
		{"--gpus", "h100", `--gpus: unknown GPU mode "h100"`},
		{"--gpus", "simulated:h100x99", "count 1 to 16"},
		{"--subnet", "10.117.0.0", "--subnet 10.117.0.0: write an IPv4 range like 10.117.0.0/16"},
		{"--subnet", "fd00::/64", "--subnet fd00::/64: write an IPv4 range"},
		{"--subnet", "10.0.0.0/31", "of /8 to /29"},
		{"--block", "fd00::/64", "--block fd00::/64: write an IPv4 range"},
	} {
		c, err := parse(t, "", nil, bad.flag, bad.value)
		if err != nil {
			t.Fatal(err)
		}
		err = c.check()
		if !errors.As(err, new(*usageError)) || !strings.Contains(err.Error(), bad.want) || strings.Contains(err.Error(), "Parse") {
			t.Errorf("%s %s: %v", bad.flag, bad.value, err)
		}
	}
	_, err := parse(t, "", map[string]string{"ECOLINK_STORAGE_RESERVE_GB": "many"})
	if !errors.As(err, new(*usageError)) || !strings.Contains(err.Error(), "ECOLINK_STORAGE_RESERVE_GB: many is not a whole number") || strings.Contains(err.Error(), "strconv") {
		t.Errorf("got %v", err)
	}
}
