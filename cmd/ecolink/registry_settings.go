package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"ecolink/agent/runtime"
	"ecolink/agent/runtime/registry"
	"ecolink/ledger/registries"
	"ecolink/ledger/secrets"
	"ecolink/ledger/store"
)

// imageSettings are the operator's say on registries, and on which images stay.
type imageSettings struct {
	mirrors    []string
	logins     string
	loopback   bool
	unusedDays uint16
	highWater  uint8
}

func (s *imageSettings) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&s.mirrors, "registry-mirror", nil, "REGISTRY=URL of a mirror that is asked first, such as docker.io=https://mirror.example.org:5000; may be repeated")
	f.StringVar(&s.logins, "registry-mirror-logins", "", "TOML file of mode 0600 with the mirrors' log-ins: a section for each host, with username and password")
	f.BoolVar(&s.loopback, "registry-loopback", true, "let users name registries on this machine (localhost:5000)")
	f.Uint16Var(&s.unusedDays, "image-unused-days", 7, "days after which an image that no instance uses is removed; 0 keeps it until there is no room")
	f.Uint8Var(&s.highWater, "image-disk-percent", 85, "how full the disk may be before images that no instance uses are removed, the one unused for longest first; 0 is no limit")
}

// leftOver is what a pull leaves of the disk at least.
const leftOver = 1 << 30

// runtime has the settings for the agent. Containers' addresses are no registries'.
func (s imageSettings) runtime(cfg *runtime.Config, containers string) error {
	if s.highWater > 99 {
		return fmt.Errorf("--image-disk-percent %d: choose 1 to 99, or 0 for no limit", s.highWater)
	}
	subnet, err := parseSubnet(containers)
	if err != nil {
		return err
	}
	cfg.MinFreeBytes = leftOver
	cfg.Images = runtime.ImagePolicy{UnusedFor: time.Duration(s.unusedDays) * 24 * time.Hour, HighWater: int(s.highWater)}
	cfg.Registry = registry.Config{NoLoopback: !s.loopback, Refuse: []netip.Prefix{subnet}}
	cfg.Registry.Mirrors, err = s.parseMirrors()
	return err
}

func (s imageSettings) parseMirrors() (map[string][]registry.Mirror, error) {
	logins, err := readMirrorLogins(s.logins)
	if err != nil {
		return nil, err
	}
	out := map[string][]registry.Mirror{}
	for _, pair := range s.mirrors {
		of, text, ok := strings.Cut(pair, "=")
		u, err := url.Parse(text)
		if !ok || of == "" || err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" {
			return nil, fmt.Errorf("--registry-mirror %s: write it like docker.io=https://mirror.example.org:5000, and a log-in into the file of --registry-mirror-logins", redacted(pair))
		}
		host, err := registries.CleanHost(of)
		if err != nil {
			return nil, fmt.Errorf("--registry-mirror %s: %w", redacted(pair), err)
		}
		m := registry.Mirror{URL: u}
		if l, ok := logins[u.Host]; ok {
			m.Login = &registry.Login{Username: l.Username, Password: l.Password}
			delete(logins, u.Host)
		}
		out[host] = append(out[host], m)
	}
	for host := range logins {
		return nil, fmt.Errorf("%s has a log-in for %s, which is the host of no --registry-mirror", s.logins, host)
	}
	return out, nil
}

// redacted keeps a password that somebody has put into an address out of messages.
func redacted(pair string) string {
	if before, after, ok := strings.Cut(pair, "@"); ok {
		scheme, _, _ := strings.Cut(before, "//")
		return scheme + "//…@" + after
	}
	return pair
}

type mirrorLogin struct {
	Username string `toml:"username"`
	Password string `toml:"password"`
}

func readMirrorLogins(path string) (logins map[string]mirrorLogin, err error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("--registry-mirror-logins: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("--registry-mirror-logins: others may read %s: set its mode to 0600 (chmod 600)", path)
	}
	meta, err := toml.DecodeFile(path, &logins)
	if err == nil && len(meta.Undecoded()) > 0 {
		err = fmt.Errorf("there is no setting %q: a section has username and password", meta.Undecoded()[0])
	}
	if err != nil {
		return nil, fmt.Errorf("--registry-mirror-logins %s: %w", path, err)
	}
	for host, l := range logins {
		if l.Username == "" || l.Password == "" {
			return nil, errors.New("--registry-mirror-logins " + path + ": the section of " + host + " needs username and password")
		}
	}
	return logins, nil
}

// secretsKey is the file with the key of what is sealed in the database.
func secretsKey(dataDir string) string { return filepath.Join(dataDir, "secrets.key") }

// openRegistries opens the accounts' log-ins for registries.
func openRegistries(ctx context.Context, dataDir string, st *store.Store, log *slog.Logger) (*registries.Book, error) {
	path := secretsKey(dataDir)
	keys, err := secrets.Open(path)
	if err != nil {
		return nil, err
	}
	book := registries.New(keys)
	var lost int
	err = st.View(func(tx *store.Tx) (err error) { lost, err = book.Unreadable(tx); return err })
	if lost > 0 {
		log.WarnContext(ctx, "registry log-ins can't be read with the key in the file: put back the one that was there, or have their owners store them again", "file", path, "log_ins", lost)
	}
	return book, err
}
