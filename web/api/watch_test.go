package api

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"ecolink/agent"
)

func TestWatcherSeesEveryChangeUntilTheEnd(t *testing.T) {
	b := newBox(t)
	gate := make(chan struct{})
	b.machine.set(func() { b.machine.gate = gate })
	path := b.launch(b.alice, "trainer", 2)
	var states []string
	seen := map[string]bool{}
	progress := false
	for event, data := range b.watch(b.alice, path+"?watch=true") {
		if event != "instance" {
			t.Fatalf("event %q", event)
		}
		state := data["state"].(string)
		states = append(states, state)
		if state == "pulling" && data["progress"] != nil {
			if within(t, data, "progress.layers_done") != 1.0 {
				t.Errorf("progress %v", data["progress"])
			}
			if !progress {
				progress = true
				close(gate)
			}
		}
		if state == "running" && !seen[state] {
			b.call(b.alice, "POST", path+"/terminate", nil).want(200)
		}
		seen[state] = true
		if state == "terminated" {
			var history []string
			for _, c := range data["history"].([]any) {
				history = append(history, c.(object)["state"].(string))
			}
			if got := strings.Join(history, " "); got != "pending pulling starting running terminating terminated" {
				t.Errorf("history: %s", got)
			}
		}
	}
	if !progress || !seen["running"] || states[len(states)-1] != "terminated" {
		t.Errorf("watched %v, progress %v", states, progress)
	}
}

func TestWatcherOfAnInstanceThatIsOverGetsItOnceAndTheEnd(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	b.call(b.alice, "POST", path+"/terminate", nil).want(200)
	b.reach(b.alice, path, "terminated")
	n := 0
	for range b.watch(b.alice, path+"?watch=true") {
		n++
	}
	if n != 1 {
		t.Errorf("%d events", n)
	}
}

func TestListWatcherGetsTheListAtOnceAndAfterEveryChangeButNotOfOthers(t *testing.T) {
	b := newBox(t)
	n := 0
	for event, data := range b.watch(b.bob, "/v1/gpu-instances?watch=true") {
		if n++; event != "instances" || len(data["data"].([]any)) != 0 {
			t.Fatalf("event %q: %v", event, data)
		}
		break
	}
	step := 0
	for event, data := range b.watch(b.alice, "/v1/gpu-instances?watch=true") {
		rows := data["data"].([]any)
		if event != "instances" {
			t.Fatalf("event %q", event)
		}
		switch {
		case step == 0 && len(rows) == 0:
			step = 1
			b.launch(b.alice, "trainer", 2)
		case step == 1 && len(rows) == 1 && rows[0].(object)["state"] == "running":
			step = 2
		}
		if step == 2 {
			break
		}
	}
	if step != 2 || n != 1 {
		t.Errorf("step %d", step)
	}
}

// What changes is another account's: nothing is sent.
func TestWatcherIsNotToldOfChangesThatAreNotTheirs(t *testing.T) {
	b := newBox(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	resp, err := http.DefaultClient.Do(b.request(ctx, b.bob, "GET", "/v1/gpu-instances?watch=true", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	path := b.launch(b.alice, "trainer", 2)
	b.call(b.alice, "POST", path+"/terminate", nil).want(200)
	b.reach(b.alice, path, "terminated")
	b.server.CloseClientConnections()
	raw, _ := io.ReadAll(resp.Body)
	if got := strings.Count(string(raw), "event:"); got > 1 {
		t.Errorf("%d events: %s", got, raw)
	}
}

func TestStreamEndsWhenItsWatcherLeaves(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	for _, stream := range []string{"/v1/gpu-instances?watch=true", path + "?watch=true", path + "/logs?follow=true"} {
		ctx, cancel := context.WithCancel(context.Background())
		resp, err := http.DefaultClient.Do(b.request(ctx, b.alice, "GET", stream, nil))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		resp.Body.Close()
	}
	b.server.Close() // returns when no request is left; the test would hang
}

func line(n int) agent.LogLine {
	return agent.LogLine{Time: time.Unix(int64(n), 0), Stream: "stdout", Text: strings.Repeat("x", n)}
}

func TestLogsAreListedAndTailed(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	b.call(b.alice, "GET", path+"/logs", nil).want(200).has("data", []any{})
	b.machine.set(func() {
		b.machine.lines = []agent.LogLine{line(1), line(2), {Time: time.Unix(3, 0), Stream: "stderr", Text: "\xff\"<\n", Partial: true}}
	})
	r := b.call(b.alice, "GET", path+"/logs", nil).want(200).has(
		"data.0.time", "1970-01-01T00:00:01Z", "data.0.stream", "stdout", "data.1.text", "xx", "data.2.stream", "stderr", "data.2.partial", true, "data.2.text", "\ufffd\"<\n")
	if len(r.at("data").([]any)) != 3 {
		t.Error(r.raw)
	}
	if r = b.call(b.alice, "GET", path+"/logs?tail=1", nil); len(r.at("data").([]any)) != 1 {
		t.Error(r.raw)
	}
	b.call(b.alice, "GET", path+"/logs?tail=-1", nil).refused(422, "unprocessable", "tail")
}

func TestLogThatCannotBeReadIsAnErrorAndHalfALogIsNoAnswer(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	b.machine.set(func() { b.machine.logErr = io.ErrUnexpectedEOF })
	b.call(b.alice, "GET", path+"/logs", nil).refused(500, "internal_error", "")
	b.machine.set(func() {
		for range 1000 {
			b.machine.lines = append(b.machine.lines, line(100))
		}
	})
	resp, err := http.DefaultClient.Do(b.request(context.Background(), b.alice, "GET", path+"/logs", nil))
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("half a log looks whole")
	}
}

func TestFollowedLogGoesOnUntilTheInstanceIsOver(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	b.reach(b.alice, path, "running")
	b.machine.set(func() { b.machine.lines = []agent.LogLine{line(1), line(2)} })
	var got []int
	for event, data := range b.watch(b.alice, path+"/logs?follow=true") {
		if event != "log" {
			t.Fatalf("event %q", event)
		}
		got = append(got, len(data["text"].(string)))
		switch len(got) {
		case 2:
			go func() { b.machine.more <- line(3) }()
		case 3:
			b.call(b.alice, "POST", path+"/terminate", nil).want(200)
		}
	}
	if len(got) != 3 || got[2] != 3 {
		t.Errorf("lines %v", got)
	}
}
