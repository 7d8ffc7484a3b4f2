package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

// Every refused launch leaves nothing: no instance, no row, no money moved.
func TestBadLaunchIsRefusedByNameAndLeavesNoTrace(t *testing.T) {
	b := newBox(t)
	b.launch(b.alice, "taken", 1)
	b.wantBalance(b.alice, "98.40", "1.60")
	const launch = "/v1/gpu-instances"
	with := func(field string, value any) object {
		body := launchBody("trainer", 2)
		body[field] = value
		return body
	}
	without := func(field string) object {
		body := launchBody("trainer", 2)
		delete(body, field)
		return body
	}
	raw := func(hours string) string {
		return `{"name":"trainer","gpu_type":"h100","image":"demo/box","estimated_duration_hours":` + hours + `}`
	}
	long := strings.Repeat("x", 256)
	for name, c := range map[string]struct {
		path   string
		body   any
		header []string
		status int
		code   string
		param  string
	}{
		"no GPUs":                  {launch, with("gpu_count", 0), nil, 422, "unprocessable", "gpu_count"},
		"negative GPUs":            {launch, with("gpu_count", -1), nil, 422, "unprocessable", "gpu_count"},
		"more GPUs than exist":     {launch, with("gpu_count", 3), nil, 422, "unprocessable", "gpu_count"},
		"half a GPU":               {launch, with("gpu_count", 1.5), nil, 422, "unprocessable", "gpu_count"},
		"GPUs beyond an integer":   {launch, with("gpu_count", 1e30), nil, 422, "unprocessable", "gpu_count"},
		"GPUs as a string":         {launch, with("gpu_count", "2"), nil, 422, "unprocessable", "gpu_count"},
		"no such GPU type":         {launch, with("gpu_type", "z80"), nil, 422, "unprocessable", "gpu_type"},
		"0 hours":                  {launch, with("estimated_duration_hours", 0), nil, 422, "unprocessable", "estimated_duration_hours"},
		"negative hours":           {launch, with("estimated_duration_hours", -2), nil, 422, "unprocessable", "estimated_duration_hours"},
		"too many hours":           {launch, with("estimated_duration_hours", 1e6), nil, 422, "unprocessable", "estimated_duration_hours"},
		"NaN hours":                {launch, raw("NaN"), nil, 400, "invalid_request", ""},
		"hours beyond a float":     {launch, raw("1e309"), nil, 422, "unprocessable", "estimated_duration_hours"},
		"hours below a float":      {launch, raw("-1e309"), nil, 422, "unprocessable", "estimated_duration_hours"},
		"hours as a string":        {launch, with("estimated_duration_hours", "2"), nil, 422, "unprocessable", "estimated_duration_hours"},
		"hours null":               {launch, with("estimated_duration_hours", nil), nil, 422, "unprocessable", "estimated_duration_hours"},
		"hours missing":            {launch, without("estimated_duration_hours"), nil, 422, "unprocessable", "estimated_duration_hours"},
		"name in use":              {launch, launchBody("taken", 2), nil, 409, "conflict", "name"},
		"name in use, dry":         {launch + "?dry_run=true", launchBody("taken", 2), nil, 409, "conflict", "name"},
		"bad name":                 {launch, with("name", "Bad Name!"), nil, 422, "unprocessable", "name"},
		"empty name":               {launch, with("name", ""), nil, 422, "unprocessable", "name"},
		"name missing":             {launch, without("name"), nil, 422, "unprocessable", "name"},
		"too little money":         {launch, with("estimated_duration_hours", 1000), nil, 402, "insufficient_balance", ""},
		"unknown image":            {launch, with("image", "demo/unknown"), nil, 422, "unprocessable", "image"},
		"no image":                 {launch, with("image", ""), nil, 422, "unprocessable", "image"},
		"command no list":          {launch, with("command", "bash"), nil, 422, "unprocessable", "command"},
		"command of numbers":       {launch, with("command", []any{1}), nil, 422, "unprocessable", "command[0]"},
		"bad variable":             {launch, with("env", object{"A=B": "c"}), nil, 422, "unprocessable", "env"},
		"variable no string":       {launch, with("env", object{"A": 1}), nil, 422, "unprocessable", "env.A"},
		"unknown field":            {launch, with("priority", "spot"), nil, 422, "unprocessable", "priority"},
		"mistyped field":           {launch, object{"nmae": "trainer"}, nil, 422, "unprocessable", "nmae"},
		"unknown query":            {launch + "?dryrun=true", launchBody("trainer", 2), nil, 422, "unprocessable", "dryrun"},
		"bare dry_run":             {launch + "?dry_run", launchBody("trainer", 2), nil, 422, "unprocessable", "dry_run"},
		"dry_run maybe":            {launch + "?dry_run=maybe", launchBody("trainer", 2), nil, 422, "unprocessable", "dry_run"},
		"no body":                  {launch, nil, nil, 400, "invalid_request", ""},
		"broken JSON":              {launch, `{"name":`, nil, 400, "invalid_request", ""},
		"JSON and more":            {launch, raw("2") + "{}", nil, 400, "invalid_request", ""},
		"no object":                {launch, `[]`, nil, 422, "unprocessable", ""},
		"a form":                   {launch, "name=trainer", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported_media_type", "Content-Type"},
		"empty idempotency key":    {launch, launchBody("trainer", 2), []string{"Idempotency-Key", ""}, 422, "unprocessable", "Idempotency-Key"},
		"long idempotency key":     {launch, launchBody("trainer", 2), []string{"Idempotency-Key", long}, 422, "unprocessable", "Idempotency-Key"},
		"strange idempotency key":  {launch, launchBody("trainer", 2), []string{"Idempotency-Key", "schlüssel"}, 422, "unprocessable", "Idempotency-Key"},
		"extend by nothing":        {launch + "/1/extend", object{"hours": 0}, nil, 422, "unprocessable", "hours"},
		"extend by a string":       {launch + "/1/extend", object{"hours": "1"}, nil, 422, "unprocessable", "hours"},
		"extend without the money": {launch + "/1/extend", object{"hours": 1000}, nil, 402, "insufficient_balance", ""},
		"extend what is not":       {launch + "/99/extend", object{"hours": 1}, nil, 404, "not_found", ""},
		"no number":                {launch + "/one/terminate", nil, nil, 422, "unprocessable", "id"},
		"no route":                 {"/v1/gpu-instance", nil, nil, 404, "not_found", ""},
		"no such method":           {"/v1/gpus", nil, nil, 405, "method_not_allowed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := *b
			b.t = t
			b.call(b.alice, "POST", c.path, c.body, c.header...).refused(c.status, c.code, c.param)
		})
	}
	b.wantBalance(b.alice, "98.40", "1.60")
	if all := b.call(b.alice, "GET", launch, nil).at("data").([]any); len(all) != 1 {
		t.Errorf("%d instances", len(all))
	}
	if id := b.call(b.alice, "POST", launch, launchBody("next", 1)).want(201).at("id"); id != 2.0 {
		t.Errorf("the refused ones used up numbers: %v", id)
	}
	if strings.Contains(b.log.String(), "level=ERROR") {
		t.Errorf("a caller's mistake is in the log as ours: %s", b.log)
	}
}

func TestWrongMethodSaysWhichOnesDo(t *testing.T) {
	b := newBox(t)
	r := b.call(b.alice, "PUT", "/v1/gpu-instances", nil).refused(405, "method_not_allowed", "")
	if allow := r.header.Get("Allow"); !strings.Contains(allow, "GET") || !strings.Contains(allow, "POST") {
		t.Errorf("Allow: %q", allow)
	}
}

func TestNobodyGetsInWithoutALiveKey(t *testing.T) {
	b := newBox(t)
	revoked := b.join("carol")
	b.update(func(tx *store.Tx) error { return identity.RevokeKey(tx, revoked.account, revoked.key, time.Now()) })
	for _, p := range []party{{}, {secret: "eco_nonsense"}, revoked} {
		for _, path := range []string{"/v1/me", "/v1/gpu-instances", "/v1/gpu-instances/1", "/v1/gpu-instances/1/logs", "/v1/gpu-instances/1/terminal",
			"/v1/gpu-instances/1/exec", "/v1/gpus", "/v1/billing/balance", "/v1/billing/transactions", "/v1/billing/prices",
			"/v1/billing/usage", "/v1/billing/usage/series", "/v1/billing/statement", "/v1/api-keys"} {
			r := b.call(p, "GET", path, nil)
			r.want(401)
			if r.at("error.code") != "unauthorized" || r.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: %s", path, r.raw)
			}
		}
	}
}

func TestAnotherAccountsInstanceDoesNotExist(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"GET", path, nil},
		{"GET", path + "?watch=true", nil},
		{"GET", path + "/logs", nil},
		{"GET", path + "/logs?follow=true", nil},
		{"POST", path + "/extend", object{"hours": 1}},
		{"POST", path + "/terminate", nil},
	} {
		b.call(b.bob, c.method, c.path, c.body).refused(404, "not_found", "")
	}
	b.reach(b.alice, path, "running")
	b.wantBalance(b.alice, "96.80", "3.20")
	if all := b.call(b.bob, "GET", "/v1/gpu-instances", nil).at("data").([]any); len(all) != 0 {
		t.Errorf("Bob sees %v", all)
	}
}

// Numbers below one are never anybody's.
func TestInstanceNumbersBelowOneAreRefused(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	for _, id := range []string{"0", "-1", "-2", "-3"} {
		b.call(b.bob, "GET", "/v1/gpu-instances/"+id, nil).refused(422, "unprocessable", "id")
		b.call(b.bob, "POST", "/v1/gpu-instances/"+id+"/terminate", nil).refused(422, "unprocessable", "id")
		b.call(b.bob, "POST", "/v1/gpu-instances/"+id+"/extend", object{"hours": 1}).refused(422, "unprocessable", "id")
		b.call(b.bob, "GET", "/v1/gpu-instances/"+id+"/logs", nil).refused(422, "unprocessable", "id")
	}
	b.reach(b.alice, path, "running")
}

// zeros is a body that never was in memory, and counts what was taken of it.
type zeros struct{ left, taken int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	z.taken += n
	return int(n), nil
}

func TestHugeBodyIsRefusedWithoutBeingRead(t *testing.T) {
	b := newBox(t)
	const size = 100 << 20
	for name, length := range map[string]int64{"announced": size, "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			b := *b
			b.t = t
			body := &zeros{left: size}
			req := b.request(context.Background(), b.alice, "POST", "/v1/gpu-instances", io.Reader(body))
			req.ContentLength = length
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			raw, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if resp.StatusCode != 413 || !strings.Contains(string(raw), `"request_too_large"`) || !strings.Contains(string(raw), resp.Header.Get("X-Ecolink-Request-Id")) {
				t.Errorf("%s: %s", resp.Status, raw)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
				t.Errorf("%d bytes were allocated for it", grown)
			}
		})
	}
}

func TestBodyOfExactlyTheLimitIsRead(t *testing.T) {
	b := newBox(t)
	body := `{"hours":1}`
	b.launch(b.alice, "trainer", 1)
	b.call(b.alice, "POST", "/v1/gpu-instances/1/extend", body+strings.Repeat(" ", maxBody-len(body))).want(200)
	b.call(b.alice, "POST", "/v1/gpu-instances/1/extend", body+strings.Repeat(" ", maxBody-len(body)+1)).refused(413, "request_too_large", "")
}

func TestBodyThatBreaksOffIsTheCallersFault(t *testing.T) {
	r, err := http.NewRequest("POST", "/", io.MultiReader(strings.NewReader("{"), broken{}))
	if err != nil {
		t.Fatal(err)
	}
	err = takeBody(&answer{header: http.Header{}}, r)
	var f *web.Failure
	if !errors.As(err, &f) || f.Status != 400 || f.Code != "invalid_request" {
		t.Errorf("got %v", err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
