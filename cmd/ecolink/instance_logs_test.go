package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ecolink/agent"
)

func TestPartialLinesAreJoinedWithinTheirStream(t *testing.T) {
	var out, errs strings.Builder
	write := joinTo(&out, &errs)
	for _, l := range []logLine{
		{Stream: "stdout", Text: "one ", Partial: true},
		{Stream: "stderr", Text: "warning", Partial: true},
		{Stream: "stdout", Text: "line"},
		{Stream: "stderr", Text: "!"},
		{Stream: "stdout", Text: ""},
		{Stream: "stdout", Text: "\tno end\r", Partial: true},
	} {
		must(t, write(record[logLine]{V: l}))
	}
	if out.String() != "one line\n\n\tno end\r" || errs.String() != "warning!\n" {
		t.Errorf("stdout %q, stderr %q", out.String(), errs.String())
	}
}

func TestBookmarkLeavesOutExactlyWhatWasSeen(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		times := make([]time.Time, 1+random.IntN(20))
		at := time.Unix(1, 0)
		for n := range times {
			at = at.Add(time.Duration(random.IntN(2))) // several at the same time
			times[n] = at
		}
		var b bookmark
		got := 0
		for got < len(times) {
			b.again()
			upTo := random.IntN(len(times) + 1)
			for n, at := range times[:upTo] {
				if b.isNew(at) {
					if n != got {
						t.Fatalf("%v: line %d came after %d lines", times, n, got)
					}
					got++
				}
			}
		}
	}
}

// TestFollowedLogIsWholeAfterLostConnections cuts the connection again and again
// while the instance prints.
func TestFollowedLogIsWholeAfterLostConnections(t *testing.T) {
	b := newBox(t)
	i := b.launch(t, "demo")
	line := newCable(t, b.url)
	c := b.client()
	c.base = line.url
	var want, got strings.Builder
	var lines atomic.Int64
	done := make(chan error, 1)
	go func() {
		write := joinTo(&got, &got)
		done <- c.followLogs(t.Context(), i, 0, func(l record[logLine]) error {
			lines.Add(1)
			return write(l)
		})
	}()
	for n := range 300 {
		now := time.Now().Truncate(time.Millisecond) // so that some are the same
		text := fmt.Sprintf("line %d", n)
		want.WriteString(text + "\n")
		b.machine.prints("instance-1", agent.LogLine{Time: now, Stream: "stdout", Text: text})
		if n%100 == 50 {
			eventually(t, func() bool { return lines.Load() > int64(n-50) })
			line.cut()
		}
	}
	eventually(t, func() bool { return lines.Load() >= 300 })
	must(t, b.client().do(t.Context(), "POST", i.path()+"/terminate", nil, nil))
	must(t, <-done)
	if got.String() != want.String() {
		t.Errorf("got %d bytes, want %d", got.Len(), want.Len())
	}
	if line.connections.Load() < 4 {
		t.Errorf("only %d connections: nothing was cut", line.connections.Load())
	}
}
