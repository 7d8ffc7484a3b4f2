package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

type box struct {
	t       testing.TB
	store   *store.Store
	handler http.Handler
}

func newBox(t testing.TB) *box {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	log := slog.New(slog.DiscardHandler)
	return &box{t: t, store: st, handler: web.Identify(Handler(st, identity.NewHasher(1), "test", log), log, "")}
}

type object = map[string]any

// call sends body, a string or anything to make JSON of, and checks the status.
func (b *box) call(method, path string, body any, status int) object {
	b.t.Helper()
	text, ok := body.(string)
	if !ok && body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			b.t.Fatal(err)
		}
		text = string(raw)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(text)))
	if w.Code != status {
		b.t.Fatalf("%s %s: status %d, want %d: %s", method, path, w.Code, status, w.Body)
	}
	var out object
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		b.t.Fatalf("%v in %s", err, w.Body)
	}
	return out
}

// withKey gives a call that moves money a key of its own.
func withKey(in object) object {
	in["key"] = rand.Text()
	return in
}

func (b *box) refused(path string, body any, status int, code string, param any) {
	b.t.Helper()
	e := b.call("POST", path, body, status)["error"].(object)
	if e["code"] != code || e["param"] != param || e["request_id"] == "" || e["message"] == "" {
		b.t.Errorf("want %s, %v: %v", code, param, e)
	}
}

func (b *box) bootstrap() object {
	b.t.Helper()
	return b.call("POST", "/admin/bootstrap", object{"email": "Op@example.org", "password": "correct horse"}, 201)
}

// audit lists the box's events, oldest first.
func (b *box) audit() (actions []string) {
	b.t.Helper()
	err := b.store.View(func(tx *store.Tx) error {
		all, err := identity.ListAllAudit(tx, 100, 0)
		for _, e := range all {
			if e.Actor != operator || e.From != origin {
				b.t.Errorf("event %+v", e)
			}
			actions = append([]string{e.Action}, actions...)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return actions
}

func (b *box) update(fn func(*store.Tx) error) {
	b.t.Helper()
	if err := b.store.Update(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
}

func TestBootstrapMakesTheOperatorOnce(t *testing.T) {
	b := newBox(t)
	out := b.bootstrap()
	account, user := out["account"].(object), out["user"].(object)
	if len(out) != 3 || account["id"] != 1.0 || account["name"] != "Operator" || user["id"] != 1.0 || user["email"] != "op@example.org" {
		t.Errorf("%v", out)
	}
	secret := out["api_key"].(string)
	err := b.store.View(func(tx *store.Tx) error {
		k, err := identity.FindKey(tx, secret)
		if err != nil {
			return err
		}
		u, err := identity.UserByID(tx, k.Creator)
		if !u.Operator {
			t.Error("the first user is no operator")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.refused("/admin/bootstrap", object{"email": "other@example.org", "password": "correct horse"}, 409, "conflict", nil)
	if _, err := identity.NewHasher(1).Authenticate(context.Background(), b.store, "op@example.org", "correct horse"); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(b.audit()); got != "[box.bootstrap]" {
		t.Errorf("audit: %s", got)
	}
}

func TestBadBootstrapLeavesTheBoxAsItWas(t *testing.T) {
	b := newBox(t)
	b.refused("/admin/bootstrap", object{"email": "op@example.org", "password": "short"}, 422, "unprocessable", "password")
	b.refused("/admin/bootstrap", object{"email": "nobody", "password": "correct horse"}, 422, "unprocessable", "email")
	b.refused("/admin/bootstrap", object{"email": "op@example.org", "password": "correct horse", "admin": "yes"}, 422, "unprocessable", "admin")
	b.refused("/admin/bootstrap", object{"email": 7, "password": "correct horse"}, 422, "unprocessable", "email")
	b.refused("/admin/bootstrap", `{"email":`, 400, "invalid_request", nil)
	b.refused("/admin/bootstrap", "", 400, "invalid_request", nil)
	b.refused("/admin/bootstrap", `{"email":"`+strings.Repeat("x", maxBody)+`"}`, 413, "request_too_large", nil)
	b.refused("/admin/reboot", object{}, 404, "not_found", nil)
	if got := b.audit(); len(got) != 0 {
		t.Errorf("audit: %v", got)
	}
	b.bootstrap()
}

func TestTopUpFindsTheAccountByNumberAndByItsOwner(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	for n, account := range []any{"1", 1, "op@example.org", " OP@example.org"} {
		out := b.call("POST", "/admin/topup", withKey(object{"account": account, "amount": "25.00", "note": "invoice"}), 200)
		if want := fmt.Sprintf("%d.00", 25*(n+1)); out["account_id"] != 1.0 || out["available"] != want || out["held"] != "0.00" || out["transaction_id"] != float64(n+1) {
			t.Errorf("%v: %v", account, out)
		}
	}
	if got := fmt.Sprint(b.audit()); got != "[box.bootstrap account.topup account.topup account.topup account.topup]" {
		t.Errorf("audit: %s", got)
	}
}

func TestTopUpWithAKeyCreditsOnceAndAnswersTheSame(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	in := object{"account": "1", "amount": "25.00", "note": "invoice", "key": "inv-1"}
	first := b.call("POST", "/admin/topup", in, 200)
	b.call("POST", "/admin/topup", withKey(object{"account": "1", "amount": "5"}), 200)
	if again := b.call("POST", "/admin/topup", in, 200); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("first %v, then %v", first, again)
	}
	in["amount"] = "26.00"
	b.refused("/admin/topup", in, 409, "conflict", "Idempotency-Key")
	if got := fmt.Sprint(b.audit()); got != "[box.bootstrap account.topup account.topup]" {
		t.Errorf("audit: %s", got)
	}
	b.call("POST", "/admin/ledger/verify", nil, 200)
	err := b.store.View(func(tx *store.Tx) error {
		w, err := ledger.WalletOf(tx, 1)
		if w.Available != 30*ledger.Dollar {
			t.Errorf("available %s", w.Available)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBadTopUpMovesNothing(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	b.update(func(tx *store.Tx) error { // one user who owns nothing, one who owns two
		for _, email := range []string{"none@example.org", "two@example.org"} {
			u, err := identity.CreateUser(tx, identity.NewUser{Email: email}, time.Now())
			if err != nil {
				return err
			}
			for n := range 2 {
				a, err := identity.CreateAccount(tx, fmt.Sprint(email, n), time.Now())
				if err != nil {
					return err
				}
				role := identity.RoleMember
				if strings.HasPrefix(email, "two") {
					role = identity.RoleOwner
				}
				if err := identity.AddMember(tx, a.ID, u.ID, role); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for _, amount := range []any{"", "0", "-5", "0.00", "1e3", "NaN", "1.0000001", "five", "99999999999999", "9999999999999", "$5", "5,00", 5} {
		b.refused("/admin/topup", withKey(object{"account": "1", "amount": amount}), 422, "unprocessable", "amount")
	}
	b.refused("/admin/topup", withKey(object{"account": "", "amount": "5"}), 422, "unprocessable", "account")
	b.refused("/admin/topup", withKey(object{"account": "ana", "amount": "5"}), 422, "unprocessable", "account")
	b.refused("/admin/topup", withKey(object{"account": nil, "amount": "5"}), 422, "unprocessable", "account")
	b.refused("/admin/topup", withKey(object{"account": "99", "amount": "5"}), 404, "not_found", nil)
	b.refused("/admin/topup", withKey(object{"account": "ana@example.org", "amount": "5"}), 404, "not_found", nil)
	b.refused("/admin/topup", withKey(object{"account": "none@example.org", "amount": "5"}), 404, "not_found", "account")
	b.refused("/admin/topup", withKey(object{"account": "two@example.org", "amount": "5"}), 409, "conflict", "account")
	b.refused("/admin/topup", object{"account": "1", "amount": "5"}, 422, "unprocessable", "key")
	b.refused("/admin/topup", object{"account": "1", "amount": "5", "key": "ä"}, 422, "unprocessable", "key")
	b.refused("/admin/topup", object{"account": "1", "amount": "5", "key": strings.Repeat("k", 256)}, 422, "unprocessable", "key")
	b.refused("/admin/topup", withKey(object{"account": "1", "amount": "5", "note": strings.Repeat("n", 501)}), 422, "unprocessable", "note")
	if out := b.call("POST", "/admin/ledger/verify", nil, 200); out["rows"] != 0.0 {
		t.Errorf("%v", out)
	}
	if got := fmt.Sprint(b.audit()); got != "[box.bootstrap]" {
		t.Errorf("audit: %s", got)
	}
}

func TestARateOfAGPUThatTheBoxDoesNotHaveIsStoredAndWarnedOf(t *testing.T) {
	b := newBox(t)
	if out := b.call("POST", "/admin/rate", object{"gpu_type": "z900", "rate": "1"}, 200); out["warning"] != nil {
		t.Errorf("nobody knows which GPUs there are, and yet: %v", out)
	}
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		has  []string
		want string
	}{
		{[]string{"a100", "h100"}, "no GPU of type z900 is in this box (it has a100, h100)"},
		{nil, "no GPU of type z900 is in this box (it has none)"},
		{[]string{"z900"}, "<nil>"},
	} {
		b.handler = web.Identify(Handler(b.store, identity.NewHasher(1), "test", log, WithGPUs(c.has)), log, "")
		out := b.call("POST", "/admin/rate", object{"gpu_type": "z900", "rate": "2"}, 200)
		if got := fmt.Sprint(out["warning"]); out["rate"] != "2.00" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%v: %v", c.has, out)
		}
	}
}

func TestRatesAreSetAndListed(t *testing.T) {
	b := newBox(t)
	if out := b.call("GET", "/admin/rates", nil, 200); len(out) != 0 {
		t.Errorf("%v", out)
	}
	b.call("POST", "/admin/rate", object{"gpu_type": "h100", "rate": "1.5"}, 200)
	if out := b.call("POST", "/admin/rate", object{"gpu_type": "h100", "rate": "1.6"}, 200); out["gpu_type"] != "h100" || out["rate"] != "1.60" {
		t.Errorf("%v", out)
	}
	b.call("POST", "/admin/rate", object{"gpu_type": "rtx-a6000", "rate": "0.000125"}, 200)
	if out := fmt.Sprint(b.call("GET", "/admin/rates", nil, 200)); out != "map[h100:1.60 rtx-a6000:0.000125]" {
		t.Error(out)
	}
	for _, price := range []string{"", "0", "-1", "free", "1e2"} {
		b.refused("/admin/rate", object{"gpu_type": "h100", "rate": price}, 422, "unprocessable", "rate")
	}
	for _, gpuType := range []string{"", "H100", "h 100", strings.Repeat("h", 65)} {
		b.refused("/admin/rate", object{"gpu_type": gpuType, "rate": "1"}, 422, "unprocessable", "gpu_type")
	}
	if got := fmt.Sprint(b.audit()); got != "[rate.set rate.set rate.set]" {
		t.Errorf("audit: %s", got)
	}
}

func TestVerifyTellsWhatTheBooksHold(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	b.call("POST", "/admin/topup", withKey(object{"account": "1", "amount": "25.00"}), 200)
	b.update(func(tx *store.Tx) error {
		h, err := ledger.PlaceHold(tx, ledger.Entry{At: time.Now(), Account: 1, Amount: 4 * ledger.Dollar, Resource: "gpu-instance/1"}, ledger.HoldTerms{})
		if err != nil {
			return err
		}
		_, err = ledger.SettleHold(tx, h.ID, ledger.GPUUsage, ledger.Dollar, ledger.Entry{At: time.Now()})
		return err
	})
	out := b.call("POST", "/admin/ledger/verify", nil, 200)
	if out["rows"] != 4.0 || out["accounts"] != 1.0 || out["open_holds"] != 0.0 || out["funded"] != "25.00" || out["earned"] != "1.00" || len(out["last_hash"].(string)) != 64 {
		t.Errorf("%v", out)
	}
}

func TestBooksThatDisagreeAreToldToTheOperator(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	b.call("POST", "/admin/topup", withKey(object{"account": "1", "amount": "25.00"}), 200)
	holds := store.NewIntCollection[int64, ledger.Hold]("ledger.holds")
	b.update(func(tx *store.Tx) error {
		return holds.Put(tx, 9, ledger.Hold{ID: 9, Account: 1, Amount: ledger.Dollar})
	})
	e := b.call("POST", "/admin/ledger/verify", nil, 500)["error"].(object)
	if e["code"] != "books_disagree" || !strings.Contains(e["message"].(string), "hold 9") {
		t.Errorf("%v", e)
	}
}
