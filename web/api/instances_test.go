package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLaunchShowsTheInstanceAndHoldsItsPrice(t *testing.T) {
	b := newBox(t)
	body := launchBody("trainer", 2)
	body["command"], body["env"] = []string{"sleep", "inf"}, object{"TOKEN": "swordfish", "A": "b"}
	r := b.call(b.alice, "POST", "/v1/gpu-instances", body).want(201).has(
		"id", 1, "name", "trainer", "gpu_type", "h100", "gpu_count", 1, "simulated", true, "image", "demo/box",
		"command", []any{"sleep", "inf"}, "env_names", []any{"A", "TOKEN"}, "reason", "", "problem", "",
		"rate", "1.60", "hourly_cost", "1.60", "hold", "3.20", "paid_hours", 2, "created_by", b.alice.user, "termination_reason", nil)
	if r.header.Get("Location") != "/v1/gpu-instances/1" || r.header.Get("X-Ecolink-Simulated-Gpus") != "h100x2" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", r.header)
	}
	b.reach(b.alice, "/v1/gpu-instances/1", "running")
	r = b.call(b.alice, "GET", "/v1/gpu-instances/1", nil).want(200)
	since, deadline := r.at("running_since").(string), r.at("deadline").(string)
	x, err1 := time.Parse(time.RFC3339, since)
	y, err2 := time.Parse(time.RFC3339, deadline)
	if err1 != nil || err2 != nil || y.Sub(x) != 2*time.Hour || !strings.HasSuffix(since, "Z") {
		t.Errorf("runs from %s to %s", since, deadline)
	}
	if len(r.at("gpus").([]any)) != 1 {
		t.Errorf("GPUs: %v", r.at("gpus"))
	}
	if strings.Contains(r.raw, "swordfish") {
		t.Error("the value of a variable is shown")
	}
	b.wantBalance(b.alice, "96.80", "3.20")
}

func TestDryRunQuotesAndCreatesNothing(t *testing.T) {
	b := newBox(t)
	body := launchBody("trainer", 2.5)
	body["gpu_count"] = 2
	b.call(b.alice, "POST", "/v1/gpu-instances?dry_run=true", body).want(200).has(
		"rate", "1.60", "hourly_cost", "3.20", "hold", "8.00", "paid_hours", 2.5, "covered", true,
		"free_gpus", 2, "total_gpus", 2, "waiting", 0, "balance.available", "100.00", "gpu_type", "h100", "gpu_count", 2)
	b.call(b.bob, "POST", "/v1/gpu-instances?dry_run=true", body).want(200).has("covered", false, "balance.available", "0.00")
	if all := b.call(b.alice, "GET", "/v1/gpu-instances", nil).at("data").([]any); len(all) != 0 {
		t.Errorf("a dry run made %v", all)
	}
	b.wantBalance(b.alice, "100.00", "0.00")
}

func TestIdempotencyKeyLaunchesOnceAndTakesOnlyTheSameBody(t *testing.T) {
	b := newBox(t)
	key := []string{"Idempotency-Key", "job 7"}
	for range 2 {
		b.call(b.alice, "POST", "/v1/gpu-instances", launchBody("trainer", 2), key...).want(201).has("id", 1, "name", "trainer")
	}
	b.wantBalance(b.alice, "96.80", "3.20")
	b.call(b.alice, "POST", "/v1/gpu-instances", launchBody("trainer", 3), key...).refused(409, "conflict", "Idempotency-Key")
	for range 2 {
		b.call(b.alice, "POST", "/v1/gpu-instances/1/extend", object{"hours": 1}, "Idempotency-Key", "more").want(200).has("added_cost", "1.60")
	}
	b.call(b.alice, "POST", "/v1/gpu-instances/1/extend", object{"hours": 2}, "Idempotency-Key", "more").refused(409, "conflict", "Idempotency-Key")
	b.wantBalance(b.alice, "95.20", "4.80")
}

func TestExtendAnswersWithCostBalanceAndDeadline(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	b.reach(b.alice, path, "running")
	before := b.call(b.alice, "GET", path, nil).at("deadline").(string)
	r := b.call(b.alice, "POST", path+"/extend", object{"hours": 3}).want(200).has(
		"added_cost", "4.80", "balance.available", "92.00", "balance.held", "8.00", "balance.total", "100.00",
		"instance.paid_hours", 5, "instance.hold", "8.00")
	x, _ := time.Parse(time.RFC3339, before)
	y, err := time.Parse(time.RFC3339, r.at("deadline").(string))
	if err != nil || y.Sub(x) != 3*time.Hour {
		t.Errorf("the deadline went from %s to %s", before, r.at("deadline"))
	}
	after := r.at("deadline")
	b.call(b.alice, "POST", path+"/extend", object{"hours": 1000}).refused(402, "insufficient_balance", "")
	b.call(b.alice, "GET", path, nil).has("deadline", after)
	b.wantBalance(b.alice, "92.00", "8.00")
}

func TestTerminateRefundsAndMayBeRepeated(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	b.reach(b.alice, path, "running")
	b.call(b.alice, "POST", path+"/terminate", nil).want(200).has("id", 1, "deadline", nil)
	b.reach(b.alice, path, "terminated")
	b.call(b.alice, "POST", path+"/terminate", nil).want(200).has("state", "terminated", "termination_reason", "user_request", "gpus", []any{})
	b.call(b.alice, "POST", path+"/extend", object{"hours": 1}).refused(409, "conflict", "")
	if held := b.call(b.alice, "GET", "/v1/billing/balance", nil).at("held"); held != "0.00" {
		t.Errorf("%s is still held", held)
	}
}

func TestInstanceWithoutRoomSaysWhyItWaits(t *testing.T) {
	b := newBox(t)
	b.launch(b.alice, "a", 1)
	b.launch(b.alice, "b", 1)
	b.call(b.alice, "POST", "/v1/gpu-instances", launchBody("c", 1)).want(201).has(
		"state", "pending", "reason", "waits for 1 × h100, of which 0 free now; first in the queue, in about 1 h if nobody extends or goes first", "gpus", []any{})
}

func TestCursorWalksAllInstancesOnce(t *testing.T) {
	b := newBox(t)
	for n := range 7 {
		b.launch(b.alice, fmt.Sprintf("n%d", n), 1)
	}
	var names []string
	query := "?limit=3"
	for pages := 0; ; pages++ {
		r := b.call(b.alice, "GET", "/v1/gpu-instances"+query, nil).want(200)
		for _, i := range r.at("data").([]any) {
			names = append(names, i.(object)["name"].(string))
		}
		next, more := r.at("next_cursor").(string)
		if !more {
			if pages != 2 {
				t.Errorf("%d pages", pages+1)
			}
			break
		}
		query = "?limit=3&cursor=" + next
	}
	if !slices.Equal(names, []string{"n6", "n5", "n4", "n3", "n2", "n1", "n0"}) {
		t.Errorf("walked %v", names)
	}
	for _, bad := range []string{"0", "-1", "abc", "99999999999999999999"} {
		b.call(b.alice, "GET", "/v1/gpu-instances?cursor="+bad, nil).refused(422, "unprocessable", "cursor")
	}
	for _, bad := range []string{"0", "-1", "201", "x"} {
		b.call(b.alice, "GET", "/v1/gpu-instances?limit="+bad, nil).refused(422, "unprocessable", "limit")
	}
}

func TestGPUsShowOnlyToTheirOwnersWhichInstanceHasThem(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	b.reach(b.alice, path, "running")
	mine := b.call(b.alice, "GET", "/v1/gpus", nil).want(200).has(
		"simulated", true, "simulated_as", "h100x2", "driver_version", "550.54.15", "problems", []any{}, "note", "",
		"data.0.uuid", "GPU-0", "data.0.type", "h100", "data.0.rate", "1.60", "data.0.memory_bytes", float64(80<<30), "data.0.nvlink_peers", []any{1})
	theirs := b.call(b.bob, "GET", "/v1/gpus", nil).want(200)
	for n, g := range mine.at("data").([]any) {
		other := theirs.at(fmt.Sprintf("data.%d", n)).(object)
		switch g := g.(object); g["state"] {
		case "yours":
			if g["instance_id"] != 1.0 || other["state"] != "used" || other["instance_id"] != nil {
				t.Errorf("Alice sees %v, Bob %v", g, other)
			}
		case "free":
			if g["instance_id"] != nil || other["state"] != "free" {
				t.Errorf("Alice sees %v, Bob %v", g, other)
			}
		default:
			t.Errorf("Alice sees %v", g)
		}
	}
}
