package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// left looks for what an orderly end must not leave on the machine.
func (w *world) left() error {
	var found []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, w.dir) {
			found = append(found, "mount: "+strings.TrimSpace(line))
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Name == bridge {
			found = append(found, "network interface: "+link.Name)
		}
	}
	// The commands of containerd, its shims and the keepers all name our folder.
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, path := range commands {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		command := strings.ReplaceAll(string(raw), "\x00", " ")
		if strings.Contains(command, w.dir) && filepath.Base(filepath.Dir(path)) != fmt.Sprint(os.Getpid()) {
			found = append(found, "process "+filepath.Base(filepath.Dir(path))+": "+command)
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("left behind:\n  %s", strings.Join(found, "\n  "))
	}
	return nil
}
