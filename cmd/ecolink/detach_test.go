package main

import (
	"fmt"
	"testing"
)

func TestOnlyTildeDotAtTheBeginningOfALineLeaves(t *testing.T) {
	for _, c := range []struct {
		keys  string
		typed string
		left  bool
	}{
		{"ls\r", "ls\r", false},
		{"~.", "", true},
		{"ls\r~.", "ls\r", true},
		{"ls\n~.never", "ls\n", true},
		{"ls ~.\r", "ls ~.\r", false},
		{"cd ~/x\r", "cd ~/x\r", false},
		{"~/bin/x\r", "~/bin/x\r", false},
		{"~~.\r", "~.\r", false},
		{"~~~.", "~~.", false},
		{"\r~\r~.", "\r~\r", true},
		{"\r~", "\r", false},
		{"é~.", "é~.", false},
	} {
		t.Run(fmt.Sprintf("%q", c.keys), func(t *testing.T) {
			for _, size := range []int{1, len(c.keys)} { // keys come one by one, or pasted
				var d detacher
				typed, left := "", false
				for rest := c.keys; rest != "" && !left; rest = rest[min(size, len(rest)):] {
					var p []byte
					p, left = d.filter([]byte(rest[:min(size, len(rest))]))
					typed += string(p)
				}
				if typed != c.typed || left != c.left {
					t.Errorf("pieces of %d: typed %q, left %v; want %q, %v", size, typed, left, c.typed, c.left)
				}
			}
		})
	}
}

func TestWhatTheTerminalSaysDoesNotBeginALine(t *testing.T) {
	var d detacher
	typed := ""
	for _, read := range []string{"ls\r", "\x1b[12;15R", "~"} { // busybox asks at each prompt
		p, left := d.filter([]byte(read))
		if typed += string(p); left {
			t.Fatal("left too early")
		}
	}
	if _, left := d.filter([]byte(".")); !left || typed != "ls\r\x1b[12;15R" {
		t.Errorf("typed %q, left %v", typed, left)
	}
}
