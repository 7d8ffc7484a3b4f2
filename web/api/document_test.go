package api

import (
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"ecolink/web"
)

var routes = map[string][]string{
	"/healthz":                                             {"get"},
	"/v1/me":                                               {"get"},
	"/v1/gpu-instances":                                    {"get", "post"},
	"/v1/gpu-instances/{id}":                               {"get", "patch"},
	"/v1/gpu-instances/{id}/extend":                        {"post"},
	"/v1/gpu-instances/{id}/terminate":                     {"post"},
	"/v1/gpu-instances/{id}/logs":                          {"get"},
	"/v1/gpu-instances/{id}/terminal":                      {"get"},
	"/v1/gpu-instances/{id}/exec":                          {"get"},
	"/v1/gpu-instances/{id}/terminals":                     {"get"},
	"/v1/gpu-instances/{id}/terminals/{session}":           {"delete"},
	"/v1/drives":                                           {"get", "post"},
	"/v1/drives/{id}":                                      {"get", "patch", "delete"},
	"/v1/drives/{id}/snapshots":                            {"post"},
	"/v1/drives/{id}/snapshots/{name}":                     {"delete"},
	"/v1/drives/{id}/snapshots/{name}/restore":             {"post"},
	"/v1/shared-filesystems":                               {"get", "post"},
	"/v1/shared-filesystems/{id}":                          {"get", "patch", "delete"},
	"/v1/shared-filesystems/{id}/snapshots":                {"post"},
	"/v1/shared-filesystems/{id}/snapshots/{name}":         {"delete"},
	"/v1/shared-filesystems/{id}/snapshots/{name}/restore": {"post"},
	"/v1/drives/{id}/files":                                {"get", "delete"},
	"/v1/drives/{id}/files/entry":                          {"get"},
	"/v1/drives/{id}/files/content":                        {"get"},
	"/v1/drives/{id}/files/archive":                        {"get"},
	"/v1/drives/{id}/files/folders":                        {"post"},
	"/v1/drives/{id}/files/move":                           {"post"},
	"/v1/drives/{id}/uploads":                              {"post"},
	"/v1/drives/{id}/uploads/{upload}":                     {"head", "patch", "delete"},
	"/v1/shared-filesystems/{id}/files":                    {"get", "delete"},
	"/v1/shared-filesystems/{id}/files/entry":              {"get"},
	"/v1/shared-filesystems/{id}/files/content":            {"get"},
	"/v1/shared-filesystems/{id}/files/archive":            {"get"},
	"/v1/shared-filesystems/{id}/files/folders":            {"post"},
	"/v1/shared-filesystems/{id}/files/move":               {"post"},
	"/v1/shared-filesystems/{id}/uploads":                  {"post"},
	"/v1/shared-filesystems/{id}/uploads/{upload}":         {"head", "patch", "delete"},
	"/v1/gpus":                        {"get"},
	"/v1/images":                      {"get"},
	"/v1/billing/balance":             {"get"},
	"/v1/billing/transactions":        {"get"},
	"/v1/billing/prices":              {"get"},
	"/v1/billing/usage":               {"get"},
	"/v1/billing/usage/series":        {"get"},
	"/v1/billing/statement":           {"get"},
	"/v1/api-keys":                    {"get", "post"},
	"/v1/api-keys/{id}":               {"delete", "patch"},
	"/v1/registry-credentials":        {"get", "post"},
	"/v1/registry-credentials/{id}":   {"delete"},
	"/v1/openapi.json":                {"get"},
	"/v1/ssh":                         {"get"},
	"/v1/users/me/ssh-keys":           {"get", "post"},
	"/v1/users/me/ssh-key-challenges": {"post"},
	"/v1/users/me/ssh-keys/{id}":      {"delete"},
}

func TestOpenAPIDocumentDescribesEveryRouteAndError(t *testing.T) {
	b := newBox(t)
	r := b.call(party{}, "GET", "/v1/openapi.json", nil).want(200).has("openapi", "3.1.0", "info.version", "1.2.3", "components.securitySchemes.key.scheme", "bearer")
	paths := r.at("paths").(object)
	if len(paths) != len(routes) {
		t.Errorf("%d paths, want %d", len(paths), len(routes))
	}
	ids := map[any]bool{}
	for path, methods := range routes {
		item, _ := paths[path].(object)
		if len(item) != len(methods) {
			t.Errorf("%s has %v", path, item)
		}
		for _, m := range methods {
			op := within(t, item, m).(object)
			if ids[op["operationId"]] || op["summary"] == "" || len(op["tags"].([]any)) != 1 {
				t.Errorf("%s %s: %v", m, path, op)
			}
			ids[op["operationId"]] = true
			public := path == "/healthz" || path == "/v1/openapi.json"
			if _, open := op["security"]; open != public {
				t.Errorf("%s %s: security %v", m, path, op["security"])
			}
			for status, resp := range op["responses"].(object) {
				if status < "4" {
					continue
				}
				if ref := resp.(object)["content"].(object)["application/json"].(object)["schema"].(object)["$ref"]; ref != "#/components/schemas/ErrorResponse" {
					t.Errorf("%s %s %s: %v", m, path, status, ref)
				}
			}
		}
	}
	r.has("components.schemas.ErrorResponse.properties.error.$ref", "#/components/schemas/Failure",
		"components.schemas.Failure.required", []any{"code", "message", "type", "param", "request_id"},
		"components.schemas.Instance.properties.hold.type", "string", "components.schemas.Instance.properties.id.type", "integer",
		"components.schemas.Instance.properties.deadline.type", []any{"string", "null"},
		"components.schemas.Instance.properties.progress.anyOf.1.type", "null",
		"components.schemas.Instance.properties.gpus.type", "array",
		"components.schemas.NewKey.properties.secret.type", "string", "components.schemas.NewKey.properties.name.type", "string",
		"components.schemas.LaunchRequest.additionalProperties", false,
		"components.schemas.LaunchRequest.required", []any{"name", "gpu_type", "image", "estimated_duration_hours"})
	if strings.Contains(r.raw, "ErrorModel") || strings.Contains(r.raw, "problem+json") {
		t.Error("the framework's own errors are in the document")
	}
	for _, ref := range regexp.MustCompile(`"#/components/schemas/(\w+)"`).FindAllStringSubmatch(r.raw, -1) {
		r.at("components.schemas." + ref[1])
	}
}

// Every answer has exactly the fields that the document says it has.
func TestAnswersHaveTheFieldsOfTheirSchemas(t *testing.T) {
	b := newBox(t)
	doc := b.call(party{}, "GET", "/v1/openapi.json", nil)
	path := b.launch(b.alice, "trainer", 2)
	b.reach(b.alice, path, "running")
	check := func(schema string, v any) {
		t.Helper()
		properties := doc.at("components.schemas." + schema + ".properties").(object)
		for field := range properties {
			if _, ok := v.(object)[field]; !ok {
				t.Errorf("%s without %s", schema, field)
			}
		}
		if len(v.(object)) != len(properties) {
			t.Errorf("%s: %v", schema, v)
		}
	}
	check("Instance", b.call(b.alice, "GET", path, nil).body)
	check("PageInstance", b.call(b.alice, "GET", "/v1/gpu-instances", nil).body)
	check("Quote", b.call(b.alice, "POST", "/v1/gpu-instances?dry_run=true", launchBody("x", 1)).body)
	check("Extension", b.call(b.alice, "POST", path+"/extend", object{"hours": 1}).body)
	disk := b.drive(b.alice, "drives", "data", 10)
	check("Drive", b.call(b.alice, "GET", disk, nil).body)
	check("DriveUsage", b.call(b.alice, "GET", disk, nil).at("usage"))
	check("DriveSnapshot", b.call(b.alice, "POST", disk+"/snapshots", object{"name": "s"}).at("snapshots.0"))
	check("DriveChange", b.call(b.alice, "GET", disk, nil).at("history.0"))
	check("PageDrive", b.call(b.alice, "GET", "/v1/drives", nil).body)
	b.call(b.alice, "POST", disk+"/files/folders", object{"path": "a"}).want(201)
	check("FileList", b.call(b.alice, "GET", disk+"/files", nil).body)
	check("FileEntry", b.call(b.alice, "GET", disk+"/files", nil).at("data.0"))
	check("GpuList", b.call(b.alice, "GET", "/v1/gpus", nil).body)
	check("Gpu", b.call(b.alice, "GET", "/v1/gpus", nil).at("data.0"))
	check("AccountBalance", b.call(b.alice, "GET", "/v1/billing/balance", nil).body)
	check("Balance", b.call(b.alice, "POST", "/v1/gpu-instances?dry_run=true", launchBody("x", 1)).at("balance"))
	check("UsageReport", b.call(b.alice, "GET", "/v1/billing/usage", nil).body)
	check("UsageSum", b.call(b.alice, "GET", "/v1/billing/usage", nil).at("total"))
	check("UsagePart", b.call(b.alice, "GET", "/v1/billing/usage", nil).at("by_tag"))
	check("UsageSeries", b.call(b.alice, "GET", "/v1/billing/usage/series", nil).body)
	check("UsagePoint", b.call(b.alice, "GET", "/v1/billing/usage/series", nil).at("data.0"))
	check("StatementDocument", b.call(b.alice, "GET", "/v1/billing/statement", nil).body)
	check("Transaction", b.call(b.alice, "GET", "/v1/billing/transactions", nil).at("data.0"))
	check("PriceList", b.call(b.alice, "GET", "/v1/billing/prices", nil).body)
	check("ListedPrice", b.call(b.alice, "GET", "/v1/billing/prices", nil).at("data.0"))
	check("Me", b.call(b.alice, "GET", "/v1/me", nil).body)
	check("Key", b.call(b.alice, "GET", "/v1/api-keys", nil).at("data.0"))
	check("NewKey", b.call(b.alice, "POST", "/v1/api-keys", object{"name": "n"}).body)
	check("Failure", b.call(b.alice, "GET", "/v1/nothing", nil).at("error"))
	check("Health", b.call(party{}, "GET", "/healthz", nil).body)
}

func TestDocsPageStandsAlone(t *testing.T) {
	b := newBox(t)
	r := b.call(party{}, "GET", "/docs", nil).want(200)
	for _, bad := range []string{"<script", "<link", "@import", "url(", "://", " style=", "ZgotmplZ"} {
		if strings.Contains(r.raw, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for path := range routes {
		if !strings.Contains(r.raw, path) {
			t.Errorf("the page does not show %s", path)
		}
	}
	_, rest, _ := strings.Cut(r.raw, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	if policy := r.header.Get("Content-Security-Policy"); !strings.Contains(policy, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
		t.Errorf("a browser would not use the page's style: %s", policy)
	}
	for _, link := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(r.raw, -1) {
		if !strings.Contains(r.raw, `id="`+link[1]+`"`) {
			t.Errorf("#%s leads nowhere", link[1])
		}
	}
}

func TestHealthNeedsNoKey(t *testing.T) {
	b := newBox(t)
	b.call(party{}, "GET", "/healthz", nil).want(200).has("status", "ok", "version", "1.2.3")
}

func TestEveryAnswerHasItsOwnRequestID(t *testing.T) {
	b := newBox(t)
	seen := map[string]bool{}
	for _, path := range []string{"/healthz", "/docs", "/v1/openapi.json", "/v1/me", "/v1/gpus", "/v1/gpu-instances", "/v1/gpu-instances/9", "/v1/nothing", "/nothing"} {
		id := b.call(b.alice, "GET", path, nil).header.Get(web.RequestIDHeader)
		if id == "" || seen[id] {
			t.Errorf("%s: request id %q", path, id)
		}
		seen[id] = true
	}
}

func TestSocketsAreBehindTheKeyAndKnowTheirCaller(t *testing.T) {
	b := newBox(t)
	for _, name := range []string{"terminal", "exec"} {
		if r := b.call(b.bob, "GET", "/v1/gpu-instances/7/"+name, nil).want(200); r.raw != "socket of 7 for account 2" {
			t.Errorf("%s: %s", name, r.raw)
		}
	}
}
