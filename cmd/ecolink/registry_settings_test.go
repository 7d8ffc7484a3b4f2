package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecolink/agent/runtime"
)

func settings(t *testing.T, file string, args ...string) (runtime.Config, error) {
	t.Helper()
	c, err := parse(t, file, nil, args...)
	if err != nil {
		return runtime.Config{}, err
	}
	var cfg runtime.Config
	return cfg, c.images.runtime(&cfg, c.subnet)
}

func TestMirrorsAndTheirLogInsComeFromTheFileOrFlags(t *testing.T) {
	logins := filepath.Join(t.TempDir(), "mirrors.toml")
	must(t, os.WriteFile(logins, []byte("[\"mirror.example.org:5000\"]\nusername = \"box\"\npassword = \"hunter2\"\n"), 0o600))
	file := "registry_mirror = [\"docker.io=https://mirror.example.org:5000/hub\", \"index.docker.io=http://127.0.0.1:5000\"]\n" +
		"registry_mirror_logins = \"" + logins + "\"\nimage_unused_days = 3\nimage_disk_percent = 70\nregistry_loopback = false\n"
	cfg, err := settings(t, file)
	must(t, err)
	m := cfg.Registry.Mirrors["docker.io"]
	if len(m) != 2 || m[0].URL.Host != "mirror.example.org:5000" || m[0].Login.Username != "box" || m[1].URL.Scheme != "http" || m[1].Login != nil {
		t.Errorf("got %+v", m)
	}
	if cfg.Images.UnusedFor != 72*time.Hour || cfg.Images.HighWater != 70 || !cfg.Registry.NoLoopback || len(cfg.Registry.Refuse) != 1 {
		t.Errorf("got %+v", cfg)
	}
	usual, err := settings(t, "")
	must(t, err)
	if usual.Registry.NoLoopback || usual.Images.UnusedFor != 7*24*time.Hour || usual.MinFreeBytes == 0 {
		t.Errorf("usually %+v", usual)
	}
}

func TestMirrorThatCannotBeOneIsRefusedAndNoPasswordIsInTheMessage(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open.toml")
	must(t, os.WriteFile(open, []byte("[\"a.example\"]\nusername = \"box\"\npassword = \"hunter2\"\n"), 0o644))
	lost := filepath.Join(t.TempDir(), "lost.toml")
	must(t, os.WriteFile(lost, []byte("[\"other.example\"]\nusername = \"box\"\npassword = \"hunter2\"\n"), 0o600))
	for want, args := range map[string][]string{
		"write it like":             {"--registry-mirror", "docker.io"},
		"log-in into the file":      {"--registry-mirror", "docker.io=https://box:hunter2@mirror.example"},
		"docker.io=ftp":             {"--registry-mirror", "docker.io=ftp://mirror.example"},
		"0600":                      {"--registry-mirror", "docker.io=https://a.example", "--registry-mirror-logins", open},
		"the host of no":            {"--registry-mirror", "docker.io=https://a.example", "--registry-mirror-logins", lost},
		"no such file":              {"--registry-mirror-logins", "/nonexistent"},
		"--image-disk-percent 100:": {"--image-disk-percent", "100"},
	} {
		_, err := settings(t, "", args...)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: got %v, want something with %q", args, err, want)
		}
	}
}
