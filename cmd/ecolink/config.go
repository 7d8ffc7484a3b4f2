package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"ecolink/nvml"
	"ecolink/scheduler"
)

// serveConfig is how the box is set up. Every field is a flag; the same name is
// a key of the configuration file (with _ for -) and, in capitals behind
// ECOLINK_, a variable. Flags win over variables, variables over the file.
type serveConfig struct {
	file        string
	dataDir     string
	runDir      string
	listen      string
	sshListen   string
	publicURL   string
	serviceURL  string
	gpus        string
	containerd  string
	bridge      string
	subnet      string
	warm        int
	dns         []string
	block       []string
	logFormat   string
	images      imageSettings
	reserveGB   uint32
	policy      scheduler.Policy
	warmScratch int
	// preemptAfter is how long an instance keeps its GPUs at first.
	preemptAfter time.Duration
	// userNamespaces is auto, on or off.
	userNamespaces string
	usersDecided   *bool // by the last start, for who starts no container; else nil
}

// defaultDataDir is the data folder of the one box that most machines have.
const defaultDataDir = "/var/lib/ecolink"

func (c *serveConfig) flags(f *pflag.FlagSet) {
	f.StringVar(&c.file, "config", "/etc/ecolink/ecolink.toml", "configuration file; this one may be missing")
	f.StringVar(&c.dataDir, "data-dir", defaultDataDir, "what must survive a reboot: database, images, logs")
	f.StringVar(&c.runDir, "run-dir", "/run/ecolink", "sockets and other things that a reboot may clear")
	f.StringVar(&c.listen, "listen", "127.0.0.1:7070", "address of the API and the console")
	f.StringVar(&c.sshListen, "ssh-listen", "auto", "address of the SSH server that leads into instances; auto is port 2222 beside --listen, and empty is none")
	f.StringVar(&c.publicURL, "public-url", "", "address that people use, when it is a proxy's on this box; it must add who asks to X-Forwarded-For")
	f.StringVar(&c.serviceURL, "service-url", "", "pattern of the addresses that browsers open services and Jupyter at, such as https://*.apps.example.org; all its names lead here. When empty, http://*.localhost for a console on loopback, else none")
	f.StringVar(&c.gpus, "gpus", "auto", "auto, or simulated:<a100|h100|h200|b200>x<1..16>")
	f.StringVar(&c.containerd, "containerd", "auto", "embedded (a child of its own), the path of a socket, or auto: what answers at run-dir/containerd/containerd.sock, else embedded")
	f.StringVar(&c.bridge, "bridge", "ecolink0", "network bridge of the containers")
	f.StringVar(&c.subnet, "subnet", "10.117.0.0/16", "addresses of the containers")
	f.IntVar(&c.warm, "warm-networks", 4, "container networks prepared ahead")
	f.StringSliceVar(&c.dns, "dns", nil, "name servers for containers; the host's own when empty")
	f.StringSliceVar(&c.block, "block", nil, "further IPv4 ranges that containers may not reach, such as 192.168.0.0/16: clouds' metadata addresses always are such; name servers in them are still asked")
	f.Uint32Var(&c.reserveGB, "storage-reserve-gb", 10, "GB of the data folder's disk that drives and shared filesystems may never take")
	policyFlags(f, &c.policy)
	f.IntVar(&c.warmScratch, "warm-scratch", 2, "scratch disks prepared ahead")
	f.DurationVar(&c.preemptAfter, "preempt-after", scheduler.DefaultPreemptAfter, "how long an instance keeps its GPUs before a request of a higher class can take them; twice as long after each time that it happened, up to an hour")
	f.StringVar(&c.userNamespaces, "user-namespaces", "auto", "on: root in a container is nobody on the host; off: it is the host's root, without most of its powers; auto: on if this machine can, which is tried at each start")
	c.images.flags(f)
	f.StringVar(&c.logFormat, "log-format", "text", "text or json")
}

// check finds most settings that can't be, before anything is opened or made.
func (c serveConfig) check() error {
	lib, err := nvml.Open(c.gpus) // which starts nothing yet
	if err != nil {
		return misuse("--gpus: %v", err)
	}
	if err := lib.Close(); err != nil {
		return err
	}
	if _, err := networkConfig(c, nil); err != nil {
		return err
	}
	if c.preemptAfter < 0 {
		return misuse("--preempt-after %s: write 0 or more, such as 5m", c.preemptAfter)
	}
	if !slices.Contains([]string{"auto", "on", "off"}, c.userNamespaces) {
		return misuse("--user-namespaces %s: choose auto, on or off", c.userNamespaces)
	}
	return nil
}

// parseSubnet reads --subnet.
func parseSubnet(s string) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(s)
	if err != nil || !subnet.Addr().Is4() || subnet.Bits() < 8 || subnet.Bits() > 29 {
		return subnet, misuse("--subnet %s: write an IPv4 range like 10.117.0.0/16, of /8 to /29", s)
	}
	return subnet, nil
}

// settingProblem says which setting has a value that can't be, wherever it is from.
func settingProblem(name string, err error) error {
	if invalid := (*pflag.InvalidValueError)(nil); errors.As(err, &invalid) {
		return misuse("%s: %s is not %s", name, invalid.GetValue(), kindWords(invalid))
	}
	return fmt.Errorf("%s: %w", name, err)
}

// fill sets every flag that was not given on the command line from the
// environment or the file. An unknown key in the file is an error: a typing
// mistake must not silently leave a default in force.
func fill(f *pflag.FlagSet, environ func(string) (string, bool)) error {
	file, err := f.GetString("config")
	if err != nil {
		return err
	}
	values := map[string]any{}
	if _, err := toml.DecodeFile(file, &values); err != nil && !(errors.Is(err, os.ErrNotExist) && !f.Changed("config")) {
		return fmt.Errorf("configuration %s: %w", file, err)
	}
	var problems []error
	f.VisitAll(func(flag *pflag.Flag) {
		key := strings.ReplaceAll(flag.Name, "-", "_")
		fromFile, inFile := values[key]
		delete(values, key)
		if flag.Changed {
			return
		}
		name := "ECOLINK_" + strings.ToUpper(key)
		if v, ok := environ(name); ok {
			if err := f.Set(flag.Name, v); err != nil {
				problems = append(problems, settingProblem(name, err))
			}
		} else if inFile {
			if err := f.Set(flag.Name, tomlText(fromFile)); err != nil {
				problems = append(problems, settingProblem(file+": "+key, err))
			}
		}
	})
	for key := range values {
		problems = append(problems, fmt.Errorf("%s: there is no setting %q; `ecolink serve --help` lists them, here written with _ for -", file, key))
	}
	return errors.Join(problems...)
}

// tomlText writes a value from the file as it would stand behind a flag.
func tomlText(v any) string {
	list, ok := v.([]any)
	if !ok {
		return fmt.Sprint(v)
	}
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = fmt.Sprint(w)
	}
	return strings.Join(words, ",")
}
