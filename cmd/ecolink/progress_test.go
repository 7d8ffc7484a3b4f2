package main

import (
	"strings"
	"testing"

	"ecolink/agent"
	"ecolink/scheduler"
)

func TestProgressBarFitsItsWidth(t *testing.T) {
	p := progress{Layers: 7, LayersDone: 3, Bytes: 120e6, TotalBytes: 480e6}
	want := "[=====>              ] 25%, 120.0 MB of 480.0 MB, 3 of 7 layers"
	if got := p.bar(len(want)); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for width := range 120 {
		for _, p := range []progress{p, {}, {Layers: 2}, {Layers: 1, LayersDone: 1, Bytes: 9, TotalBytes: 9}, {Bytes: 12, TotalBytes: 9}} {
			if got := p.bar(width); len(got) > width {
				t.Fatalf("%+v in %d columns takes %d: %q", p, width, len(got), got)
			}
		}
	}
	if got := (progress{Layers: 2, LayersDone: 1}).bar(80); got != "1 of 2 layers" {
		t.Errorf("without a size: %q", got)
	}
	if got := (progress{Layers: 1, LayersDone: 1, Bytes: 9, TotalBytes: 9}).bar(80); !strings.Contains(got, "=] 100%") {
		t.Errorf("at the end: %q", got)
	}
}

func TestProgressSaysWhenNothingIsLeftButToUnpack(t *testing.T) {
	p := progress{Layers: 2, LayersDone: 1, Bytes: 9, TotalBytes: 9}
	p.LayerList = append(p.LayerList, layerState{agent.LayerDone}, layerState{agent.LayerUnpacking})
	if got := p.words(); !strings.HasSuffix(got, "1 of 2 layers, unpacking") {
		t.Errorf("got %q", got)
	}
	p.LayerList = append(p.LayerList, layerState{agent.LayerDownloading})
	if got := p.words(); strings.HasSuffix(got, "unpacking") {
		t.Errorf("got %q", got)
	}
}

func pulling(percent int64) instance {
	return instance{Name: "demo", State: scheduler.Pulling, Progress: &progress{Layers: 1, Bytes: percent, TotalBytes: 100}}
}

func TestWithoutATerminalProgressIsALineForEachTenth(t *testing.T) {
	var out strings.Builder
	s := newScreen(&out)
	s.show(instance{Name: "demo", State: scheduler.Pending, Reason: "waits for 1 × h100"})
	for percent := range int64(101) {
		s.show(pulling(percent))
		s.show(pulling(percent))
	}
	s.show(instance{Name: "demo", State: scheduler.Running})
	s.done()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 1+1+10+1 || lines[0] != "demo: pending, waits for 1 × h100" || lines[2] != "demo: pulling 10%, 10 B of 100 B, 0 of 1 layer" {
		t.Errorf("got %d lines:\n%s", len(lines), out.String())
	}
	if strings.ContainsAny(out.String(), "\r\x1b") {
		t.Errorf("control characters in %q", out.String())
	}
}

func TestOnATerminalProgressStaysInItsLineAndLeavesNothing(t *testing.T) {
	var out strings.Builder
	s := newScreen(&out)
	s.width = func() int { return 40 }
	s.show(pulling(10))
	s.show(instance{Name: "demo", State: scheduler.Starting, Problem: strings.Repeat("é", 100)})
	s.show(instance{Name: "demo", State: scheduler.Starting, Problem: "evil\x1b[2Jtext"})
	s.done()
	if strings.Contains(out.String(), "\n") || strings.Contains(out.String(), "\x1b[2J") {
		t.Errorf("got %q", out.String())
	}
	if !strings.HasSuffix(out.String(), "\r\x1b[K") {
		t.Errorf("the line is left: %q", out.String())
	}
	for line := range strings.SplitSeq(out.String(), "\r\x1b[K") {
		if n := len([]rune(line)); n > 39 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}
