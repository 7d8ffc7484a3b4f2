package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// access is the statuses that an operation on something of Alice's gives to
// callers: one without a live key, another account's owner, a member of Alice's
// account, and an owner of it.
type access struct {
	body                            any
	nobody, stranger, member, owner int
}

// accesses has a row for each operation of the API's own document. {id} is an
// instance of Alice's, under /v1/api-keys a key, and under /v1/drives and
// /v1/shared-filesystems one of those, {name} its snapshot. The WebSockets are package
// socket's, which leaves whose an instance is to the scheduler.
var accesses = map[string]access{
	"GET /healthz":                                              {nil, 200, 200, 200, 200},
	"GET /v1/openapi.json":                                      {nil, 200, 200, 200, 200},
	"GET /v1/ssh":                                               {nil, 401, 200, 200, 200},
	"GET /v1/users/me/ssh-keys":                                 {nil, 401, 200, 200, 200},
	"POST /v1/users/me/ssh-keys":                                {object{"public_key": somePublicKey}, 401, 201, 201, 201}, // everybody's own
	"POST /v1/users/me/ssh-key-challenges":                      {object{"public_key": somePublicKey}, 401, 201, 201, 201},
	"DELETE /v1/users/me/ssh-keys/{id}":                         {nil, 401, 404, 404, 404},
	"GET /v1/me":                                                {nil, 401, 200, 200, 200},
	"GET /v1/images":                                            {nil, 401, 200, 200, 200},
	"GET /v1/gpus":                                              {nil, 401, 200, 200, 200},
	"GET /v1/billing/balance":                                   {nil, 401, 200, 200, 200},
	"GET /v1/billing/transactions":                              {nil, 401, 200, 200, 200},
	"GET /v1/billing/prices":                                    {nil, 401, 200, 200, 200},
	"GET /v1/billing/usage":                                     {nil, 401, 200, 200, 200},
	"GET /v1/billing/usage/series":                              {nil, 401, 200, 200, 200},
	"GET /v1/billing/statement":                                 {nil, 401, 200, 200, 200},
	"GET /v1/gpu-instances":                                     {nil, 401, 200, 200, 200},
	"POST /v1/gpu-instances":                                    {launchBody("", 1), 401, 402, 201, 201}, // a stranger has no money
	"GET /v1/gpu-instances/{id}":                                {nil, 401, 404, 200, 200},
	"PATCH /v1/gpu-instances/{id}":                              {object{"service_port": 8000}, 401, 404, 200, 200},
	"GET /v1/gpu-instances/{id}/logs":                           {nil, 401, 404, 200, 200},
	"POST /v1/gpu-instances/{id}/extend":                        {object{"hours": 1}, 401, 404, 200, 200},
	"POST /v1/gpu-instances/{id}/terminate":                     {nil, 401, 404, 200, 200},
	"GET /v1/gpu-instances/{id}/terminal":                       {nil, 401, 200, 200, 200},
	"GET /v1/gpu-instances/{id}/exec":                           {nil, 401, 200, 200, 200},
	"GET /v1/gpu-instances/{id}/terminals":                      {nil, 401, 404, 200, 200},
	"DELETE /v1/gpu-instances/{id}/terminals/{session}":         {nil, 401, 404, 404, 404}, // there is none
	"GET /v1/drives":                                            {nil, 401, 200, 200, 200},
	"POST /v1/drives":                                           {object{"size_gb": 1}, 401, 402, 201, 201}, // a stranger has no money
	"GET /v1/drives/{id}":                                       {nil, 401, 404, 200, 200},
	"PATCH /v1/drives/{id}":                                     {object{"size_gb": 2}, 401, 404, 200, 200},
	"DELETE /v1/drives/{id}":                                    {nil, 401, 404, 202, 202},
	"POST /v1/drives/{id}/snapshots":                            {object{"name": "t"}, 401, 404, 201, 201},
	"DELETE /v1/drives/{id}/snapshots/{name}":                   {nil, 401, 404, 202, 202},
	"POST /v1/drives/{id}/snapshots/{name}/restore":             {nil, 401, 404, 200, 200},
	"GET /v1/shared-filesystems":                                {nil, 401, 200, 200, 200},
	"POST /v1/shared-filesystems":                               {object{"size_gb": 1}, 401, 402, 201, 201}, // a stranger has no money
	"GET /v1/shared-filesystems/{id}":                           {nil, 401, 404, 200, 200},
	"PATCH /v1/shared-filesystems/{id}":                         {object{"size_gb": 2}, 401, 404, 200, 200},
	"DELETE /v1/shared-filesystems/{id}":                        {nil, 401, 404, 202, 202},
	"POST /v1/shared-filesystems/{id}/snapshots":                {object{"name": "t"}, 401, 404, 201, 201},
	"DELETE /v1/shared-filesystems/{id}/snapshots/{name}":       {nil, 401, 404, 202, 202},
	"POST /v1/shared-filesystems/{id}/snapshots/{name}/restore": {nil, 401, 404, 200, 200},
	"GET /v1/drives/{id}/files":                                 {nil, 401, 404, 200, 200},
	"DELETE /v1/drives/{id}/files":                              {nil, 401, 404, 422, 422}, // of nothing
	"GET /v1/drives/{id}/files/entry":                           {nil, 401, 404, 422, 422}, // of nothing
	"GET /v1/drives/{id}/files/content":                         {nil, 401, 404, 422, 422}, // of nothing
	"GET /v1/drives/{id}/files/archive":                         {nil, 401, 404, 200, 200},
	"POST /v1/drives/{id}/files/folders":                        {object{"path": "t"}, 401, 404, 201, 201},
	"POST /v1/drives/{id}/files/move":                           {object{"from": "none", "to": "t"}, 401, 404, 404, 404},
	"POST /v1/drives/{id}/uploads":                              {nil, 401, 404, 412, 412}, // without the protocol's header
	"HEAD /v1/drives/{id}/uploads/{upload}":                     {nil, 401, 404, 404, 404},
	"PATCH /v1/drives/{id}/uploads/{upload}":                    {nil, 401, 404, 412, 412},
	"DELETE /v1/drives/{id}/uploads/{upload}":                   {nil, 401, 404, 412, 412},
	"GET /v1/shared-filesystems/{id}/files":                     {nil, 401, 404, 200, 200},
	"DELETE /v1/shared-filesystems/{id}/files":                  {nil, 401, 404, 422, 422}, // of nothing
	"GET /v1/shared-filesystems/{id}/files/entry":               {nil, 401, 404, 422, 422}, // of nothing
	"GET /v1/shared-filesystems/{id}/files/content":             {nil, 401, 404, 422, 422}, // of nothing
	"GET /v1/shared-filesystems/{id}/files/archive":             {nil, 401, 404, 200, 200},
	"POST /v1/shared-filesystems/{id}/files/folders":            {object{"path": "t"}, 401, 404, 201, 201},
	"POST /v1/shared-filesystems/{id}/files/move":               {object{"from": "none", "to": "t"}, 401, 404, 404, 404},
	"POST /v1/shared-filesystems/{id}/uploads":                  {nil, 401, 404, 412, 412}, // without the protocol's header
	"HEAD /v1/shared-filesystems/{id}/uploads/{upload}":         {nil, 401, 404, 404, 404},
	"PATCH /v1/shared-filesystems/{id}/uploads/{upload}":        {nil, 401, 404, 412, 412},
	"DELETE /v1/shared-filesystems/{id}/uploads/{upload}":       {nil, 401, 404, 412, 412},
	"GET /v1/registry-credentials":                              {nil, 401, 200, 403, 200},
	"POST /v1/registry-credentials":                             {object{"host": "ghcr.io", "username": "ana", "password": "hunter2"}, 401, 201, 403, 201},
	"DELETE /v1/registry-credentials/{id}":                      {nil, 401, 404, 403, 404}, // there is none of that number
	"GET /v1/api-keys":                                          {nil, 401, 200, 200, 200},
	"POST /v1/api-keys":                                         {object{"name": "more"}, 401, 201, 403, 201},
	"PATCH /v1/api-keys/{id}":                                   {object{"monthly_cap": "1.00"}, 401, 404, 403, 200},
	"DELETE /v1/api-keys/{id}":                                  {nil, 401, 404, 403, 204},
}

// memberOf makes a key of Alice's account whose maker is but a member of it by now.
func (b *box) memberOf(p party, name string) (m party) {
	b.t.Helper()
	b.update(func(tx *store.Tx) error {
		u, err := identity.CreateUser(tx, identity.NewUser{Email: name + "@example.org"}, time.Now())
		if err != nil {
			return err
		}
		if err := identity.AddMember(tx, p.account, u.ID, identity.RoleOwner); err != nil {
			return err
		}
		k, secret, err := identity.CreateKey(tx, p.account, u.ID, "theirs", "", time.Now())
		if err != nil {
			return err
		}
		m = party{account: p.account, user: u.ID, key: k.ID, secret: secret}
		return identity.SetRole(tx, p.account, u.ID, identity.RoleMember)
	})
	return m
}

// operations lists what the document describes, as "METHOD path".
func (b *box) operations() (out []string) {
	b.t.Helper()
	for path, item := range b.call(party{}, "GET", "/v1/openapi.json", nil).at("paths").(map[string]any) {
		for method := range item.(map[string]any) {
			out = append(out, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(out)
	return out
}

func TestEveryOperationLetsInWhomItShould(t *testing.T) {
	b := newBox(t)
	if got, want := b.operations(), slices.Sorted(maps.Keys(accesses)); !slices.Equal(got, want) {
		t.Fatalf("the document has\n%q\nand this test\n%q", got, want)
	}
	b.priceStorage()
	mallory, mia, revoked := b.bob, b.memberOf(b.alice, "mia"), b.join("carol")
	b.update(func(tx *store.Tx) error { return identity.RevokeKey(tx, revoked.account, revoked.key, time.Now()) })
	n := 0
	for _, op := range b.operations() {
		row := accesses[op]
		for _, c := range []struct {
			who  string
			as   party
			want int
		}{
			{"nobody", party{}, row.nobody},
			{"a revoked key", revoked, row.nobody},
			{"nonsense", party{secret: "eco_' OR 1=1 --"}, row.nobody},
			{"a stranger", mallory, row.stranger},
			{"a member", mia, row.member},
			{"an owner", b.alice, row.owner},
		} {
			n++
			name := fmt.Sprintf("secret-%d", n)
			method, path, _ := strings.Cut(op, " ")
			body := row.body
			if op == "POST /v1/gpu-instances" {
				body = launchBody(name+"-too", 1)
			}
			if op == "POST /v1/drives" || op == "POST /v1/shared-filesystems" {
				body = object{"name": name + "-too", "size_gb": 1}
			}
			if kind, rest, stored := strings.Cut(path, "/{id}"); stored && (kind == "/v1/drives" || kind == "/v1/shared-filesystems") {
				path = b.withSnapshot(b.alice, kind, name) + strings.ReplaceAll(rest, "{name}", "s")
			} else if strings.Contains(path, "/api-keys/") {
				path = b.keyOf(b.alice, name)
			} else if strings.Contains(path, "/registry-credentials/") || strings.Contains(path, "/ssh-keys/") {
				path = strings.Replace(path, "{id}", "999", 1)
			} else if strings.Contains(path, "{id}") {
				// A new one each time: some end it.
				made := b.launch(b.alice, name, 1)
				rest := strings.TrimPrefix(path, "/v1/gpu-instances/{id}")
				if strings.HasPrefix(rest, "/terminals") {
					b.reach(b.alice, made, "running")
				}
				path = made + rest
			}
			r := b.call(c.as, method, path, body)
			if r.status != c.want {
				t.Errorf("%s: %s gets %d, want %d: %s", op, c.who, r.status, c.want, r.raw)
			}
			mine := c.as.account == b.alice.account
			if strings.Contains(r.raw, name) && !mine || !mine && c.want != http.StatusOK && strings.Contains(r.raw, "alice") {
				t.Errorf("%s tells %s of what is Alice's: %s", op, c.who, r.raw)
			}
			b.endAll(b.alice)
			b.releaseKey()
		}
	}
	if got := b.call(b.bob, "GET", "/v1/gpu-instances", nil).at("data").([]any); len(got) != 0 {
		t.Errorf("a stranger has %v", got)
	}
}

// keyOf makes a key and gives its path.
func (b *box) keyOf(p party, name string) (path string) {
	b.t.Helper()
	r := b.call(p, "POST", "/v1/api-keys", object{"name": name}).want(201)
	return fmt.Sprintf("/v1/api-keys/%v", r.at("id"))
}

// endAll ends an account's instances, whose money comes back.
func (b *box) endAll(p party) {
	b.t.Helper()
	for _, i := range b.call(p, "GET", "/v1/gpu-instances?limit=200", nil).at("data").([]any) {
		if within(b.t, i, "termination_reason") == nil {
			b.call(p, "POST", fmt.Sprintf("/v1/gpu-instances/%v/terminate", within(b.t, i, "id")), nil).want(200)
		}
	}
}

// What one account has done under an idempotency key says nothing to another.
func TestIdempotencyKeysAreTheAccountsOwn(t *testing.T) {
	b := newBox(t)
	b.update(func(tx *store.Tx) error {
		_, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: b.bob.account, Amount: 100 * ledger.Dollar, Description: "invoice 2"})
		return err
	})
	body := launchBody("trainer", 1)
	first := b.call(b.alice, "POST", "/v1/gpu-instances", body, "Idempotency-Key", "k").want(201)
	second := b.call(b.bob, "POST", "/v1/gpu-instances", body, "Idempotency-Key", "k").want(201)
	if first.at("id") == second.at("id") {
		t.Fatal("Bob got Alice's instance")
	}
	path := fmt.Sprintf("/v1/gpu-instances/%v/extend", second.at("id"))
	b.call(b.alice, "POST", fmt.Sprintf("/v1/gpu-instances/%v/extend", first.at("id")), object{"hours": 1}, "Idempotency-Key", "x").want(200)
	b.call(b.bob, "POST", path, object{"hours": 2}, "Idempotency-Key", "x").want(200).has("added_cost", "3.20")
	// Nor does the parting of account and key: 1/2… is not 12/….
	b.call(b.bob, "POST", "/v1/gpu-instances", launchBody("other", 1), "Idempotency-Key", fmt.Sprintf("%d/k", b.alice.account)).want(201)
}

// What encoding/json alone would take for a field, or take twice, is judged by
// what is acted on.
func TestJSONThatReadersDisagreeAboutDoesNoHarm(t *testing.T) {
	b := newBox(t)
	launch := func(more string) string {
		return `{"name":"n","gpu_type":"h100","image":"demo/box","estimated_duration_hours":1` + more + `}`
	}
	for name, body := range map[string]string{
		"another spelling":     launch(`,"GPU_COUNT":2`),
		"both spellings":       launch(`,"gpu_count":1,"Gpu_Count":2`),
		"a long s":             launch(`,"e\u017Ftimated_duration_hours":500`),
		"twice, the second":    launch(`,"gpu_count":1,"gpu_count":9`),
		"twice, another kind":  launch(`,"gpu_count":1,"gpu_count":"2"`),
		"a huge number":        launch(`,"gpu_count":1e400`),
		"a number past int":    launch(`,"gpu_count":9223372036854775808`),
		"a fraction":           launch(`,"gpu_count":1.5`),
		"negative":             launch(`,"gpu_count":-1`),
		"null":                 launch(`,"gpu_count":1,"name":null`),
		"deep":                 launch(`,"command":` + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000)),
		"two values":           launch("") + launch(""),
		"an array":             "[" + launch("") + "]",
		"half a surrogate":     launch(`,"env":{"A=\ud800":"x"}`),
		"NUL in a word":        launch(`,"command":["a\u0000b"]`),
		"NUL in a value":       launch(`,"env":{"A":"a\u0000b"}`),
		"prototype":            launch(`,"__proto__":{"gpu_count":2}`),
		"a digit of a million": launch(`,"gpu_count":1` + strings.Repeat("0", 500_000)),
	} {
		began := time.Now()
		r := b.call(b.alice, "POST", "/v1/gpu-instances", body)
		if r.status != 400 && r.status != 422 {
			t.Errorf("%s: %d %s", name, r.status, r.raw)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
	b.wantBalance(b.alice, "100.00", "0.00")
}
