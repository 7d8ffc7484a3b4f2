package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// owners are what became of the resources that holds are placed for.
var owners = map[string]Owner{"gpu-instance/1": OwnerLives, "gpu-instance/2": OwnerGone, "somewhere/3": OwnerUnknown}

// operation is one call, for the ledger and for the model. What both give is
// compared, refusals included.
type operation struct {
	name  string
	real  func(*store.Tx) (any, error)
	model func(*model) (any, error)
}

// wish is one caller's Update: some operations, and how it deals with refusals.
type wish struct {
	ops       []operation
	goOn      bool // a refusal changes nothing, so one may go on after it
	failAtEnd bool // after all have been done, and possibly written
}

var errEnd = errors.New("the update fails after all it did")

// world is a ledger and the model that it is compared with.
type world struct {
	path  string
	s     *store.Store
	m     *model
	now   time.Time
	saved []Report // of earlier moments, to make checkpoints of
	past  []func(now time.Time) operation
	keys  int
	count *modelCount
}

// shortRuns is how many runs the test makes when rapid is not told how many:
// `go test ./ledger -run Model -rapid.checks=2000` is the long form.
const shortRuns = 40

type modelCount struct{ operations, refused, groups, again, undone, reopened, rows, pages, marks, checkpoints int }

func TestLedgerDoesWhatAModelOfItDoes(t *testing.T) {
	var count modelCount
	dir := t.TempDir()
	runs, long := 0, flag.Lookup("rapid.checks").Value.String() != "100"
	rapid.Check(t, func(t *rapid.T) {
		if runs++; runs > shortRuns && !long {
			return
		}
		w := &world{path: filepath.Join(dir, fmt.Sprint(runs, ".db")), m: newModel(3), now: noon, count: &count}
		w.open(t)
		defer func() { w.s.Close(); os.Remove(w.path) }()
		must(t, w.s.Update(context.Background(), func(tx *store.Tx) error {
			for n := range 3 {
				if _, err := identity.CreateAccount(tx, fmt.Sprint("account ", n), noon); err != nil {
					return err
				}
			}
			return nil
		}))
		w.run(t, []wish{w.means()})
		for range rapid.IntRange(3, 24).Draw(t, "steps") {
			w.step(t)
			w.check(t)
		}
		count.rows = max(count.rows, len(w.m.rows))
	})
	t.Logf("%d operations (%d refused) in %d groups, %d updates run again, %d undone after writing; %d reopenings, %d checkpoints; journals of %d rows and %d pages at most, %d marks",
		count.operations, count.refused, count.groups, count.again, count.undone, count.reopened, count.checkpoints, count.rows, count.pages, count.marks)
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) open(t *rapid.T) {
	s, err := store.Open(w.path)
	must(t, err)
	w.s = s
}

func (w *world) step(t *rapid.T) {
	switch rapid.IntRange(0, 19).Draw(t, "step") {
	case 0:
		must(t, w.s.Close())
		w.open(t)
		w.count.reopened++
	case 1, 2:
		w.now = w.now.Add(rapid.SampledFrom([]time.Duration{
			-time.Minute, -6 * time.Minute, -3 * time.Hour, -40 * 24 * time.Hour, 20 * 24 * time.Hour, 40 * 24 * time.Hour, time.Minute, 48 * time.Hour,
		}).Draw(t, "time passes"))
	case 3:
		if len(w.saved) > 0 {
			r := rapid.SampledFrom(w.saved).Draw(t, "checkpoint")
			must(t, w.s.Update(context.Background(), func(tx *store.Tx) error { return SetCheckpoint(tx, r, w.now) }))
			w.count.checkpoints++
		}
	case 4, 5:
		w.run(t, []wish{w.burst(t)})
	case 6, 7, 8:
		w.run(t, rapid.SliceOfN(rapid.Custom(w.wish), 2, 6).Draw(t, "group"))
	default:
		w.run(t, []wish{w.wish(t)})
	}
}

func (w *world) wish(t *rapid.T) wish {
	u := wish{goOn: rapid.Bool().Draw(t, "go on"), failAtEnd: rapid.IntRange(0, 7).Draw(t, "fail") == 0}
	for range rapid.IntRange(1, 5).Draw(t, "operations") {
		u.ops = append(u.ops, w.operation(t))
	}
	return u
}

// means is some money to begin with, and a cap that bites in a while.
func (w *world) means() (u wish) {
	terms := HoldTerms{}
	for a := identity.AccountID(1); a <= 2; a++ {
		u.ops = append(u.ops, w.named("credit", Entry{At: w.now, Account: a, Amount: 700}, 0, 0, terms, 0))
	}
	u.ops = append(u.ops, w.named("cap", Entry{At: w.now}, 0, 7, terms, 1))
	return u
}

// burst is a lot of rows for one account, so that pages fill and the index of its
// statement has entries.
func (w *world) burst(t *rapid.T) (u wish) {
	account := identity.AccountID(rapid.IntRange(1, 2).Draw(t, "account"))
	text := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 300, 1000}).Draw(t, "text"))
	for range rapid.SampledFrom([]int{3, 30, 510, 1100}).Draw(t, "rows") {
		w.keys++
		e := Entry{At: w.now, Account: account, Amount: 3, Key: fmt.Sprintf("u%07d", w.keys), Description: text}
		u.ops = append(u.ops, operation{"burst", value(func(tx *store.Tx) (Transfer, error) { return Credit(tx, e) }),
			modelValue(func(m *model) (Transfer, error) { return m.fund(TopUp, fundingOperator, e) })})
	}
	return u
}

func value[V any](f func(*store.Tx) (V, error)) func(*store.Tx) (any, error) {
	return func(tx *store.Tx) (any, error) { return f(tx) }
}

func modelValue[V any](f func(*model) (V, error)) func(*model) (any, error) {
	return func(m *model) (any, error) { return f(m) }
}

// operation draws one; now and then it is an earlier one that comes again.
func (w *world) operation(t *rapid.T) operation {
	now := w.now.Add(rapid.SampledFrom([]time.Duration{0, 0, 0, time.Second, -time.Second, -4 * time.Minute}).Draw(t, "at"))
	if len(w.past) > 0 && rapid.IntRange(0, 3).Draw(t, "again") == 0 {
		return rapid.SampledFrom(w.past).Draw(t, "earlier")(now)
	}
	make := w.draw(t)
	w.past = append(w.past, make)
	return make(now)
}

func (w *world) entry(t *rapid.T) Entry {
	w.keys++
	return Entry{
		Account: identity.AccountID(rapid.SampledFrom([]int64{1, 1, 1, 2, 2, 3, 4}).Draw(t, "account")),
		Amount: MicroUSD(rapid.OneOf(rapid.Int64Range(1, 60), rapid.Int64Range(1, 60), rapid.Int64Range(-1, 5_000_000),
			rapid.SampledFrom([]int64{5, 10, 1_000_000_000})).Draw(t, "amount")),
		Resource:    rapid.SampledFrom([]string{"gpu-instance/1", "gpu-instance/1", "gpu-instance/2", "somewhere/3"}).Draw(t, "resource"),
		RequestID:   rapid.SampledFrom([]string{"", "r1"}).Draw(t, "request"),
		Key:         rapid.SampledFrom([]string{"", "", "k1", "k2", "a", fmt.Sprintf("u%07d", w.keys)}).Draw(t, "key"),
		APIKey:      identity.KeyID(rapid.SampledFrom([]int64{0, 1, 1, 2}).Draw(t, "api key")),
		Tag:         rapid.SampledFrom([]string{"", "web"}).Draw(t, "tag"),
		Usage:       rapid.SampledFrom([]Usage{{}, {Model: "llama", InputTokens: 3, Bytes: 1}}).Draw(t, "usage"),
		Description: rapid.SampledFrom([]string{"why", "because", ""}).Draw(t, "description"),
	}
}

// draw makes an operation without its time.
func (w *world) draw(t *rapid.T) func(time.Time) operation {
	e := w.entry(t)
	id := HoldID(rapid.IntRange(1, len(w.m.holds)+1).Draw(t, "hold"))
	if open := w.m.openHolds(0); len(open) > 0 && rapid.IntRange(0, 4).Draw(t, "open") > 0 {
		id = rapid.SampledFrom(open).Draw(t, "open hold").ID
	}
	small := MicroUSD(rapid.SampledFrom([]int64{0, 0, 1, 7, 40, -1}).Draw(t, "small"))
	terms := HoldTerms{Overage: 3 * small, Overdraft: small}
	deadline := rapid.SampledFrom([]time.Time{{}, noon.Add(time.Hour), noon.AddDate(0, 1, 0)}).Draw(t, "deadline")
	terms.Deadline = deadline
	key := identity.KeyID(rapid.IntRange(1, 2).Draw(t, "cap of"))
	pick := rapid.SampledFrom([]string{
		"credit", "credit", "bonus", "correct", "charge", "charge", "charge", "place", "place", "extend", "charge hold", "charge hold",
		"settle", "settle", "void", "reconcile", "accept clock", "cap", "clear cap", "statement", "statement",
	}).Draw(t, "what")
	return func(at time.Time) operation {
		e := e
		e.At = at
		return w.named(pick, e, id, small, terms, key)
	}
}

func (w *world) named(name string, e Entry, id HoldID, small MicroUSD, terms HoldTerms, key identity.KeyID) operation {
	op := operation{name: fmt.Sprintf("%s %+v hold %d small %d %+v cap of %d", name, e, id, int64(small), terms, key)}
	switch name {
	case "credit":
		op.real = value(func(tx *store.Tx) (Transfer, error) { return Credit(tx, e) })
		op.model = modelValue(func(m *model) (Transfer, error) { return m.fund(TopUp, fundingOperator, e) })
	case "bonus":
		op.real = value(func(tx *store.Tx) (Transfer, error) { return GiveBonus(tx, e) })
		op.model = modelValue(func(m *model) (Transfer, error) { return m.fund(Bonus, fundingBonus, e) })
	case "correct":
		switch a := w.m.accounts[e.Account]; small {
		case 1:
			e.Amount = -e.Amount
		case 7: // some of what is held, too
			e.Amount = -(a.Available + (a.Held+1)/2)
		case 40:
			e.Amount = -(a.Available + a.Held)
		}
		op.real = value(func(tx *store.Tx) (Transfer, error) { return Correct(tx, e) })
		op.model = modelValue(func(m *model) (Transfer, error) { return m.correct(e) })
	case "charge":
		op.real = value(func(tx *store.Tx) (Transfer, error) { return Charge(tx, APIUsage, e) })
		op.model = modelValue(func(m *model) (Transfer, error) { return m.charge(e) })
	case "place":
		op.real = value(func(tx *store.Tx) (Hold, error) { return PlaceHold(tx, e, terms) })
		op.model = modelValue(func(m *model) (Hold, error) { return m.placeHold(e, terms) })
	case "extend":
		op.real = value(func(tx *store.Tx) (Hold, error) { h, _, err := ExtendHold(tx, id, e, terms.Deadline); return h, err })
		op.model = modelValue(func(m *model) (Hold, error) { return m.extendHold(id, e, terms.Deadline) })
	case "charge hold":
		second := e
		second.Amount, second.Resource = small+1, ""
		if small == 7 {
			second.Key = ""
		}
		entries := []Entry{e, second}[:1+int(max(0, small))%2]
		op.real = value(func(tx *store.Tx) (Hold, error) { return ChargeHold(tx, id, GPUUsage, entries...) })
		op.model = modelValue(func(m *model) (Hold, error) { return m.chargeHold(id, entries...) })
	case "settle":
		used := e.Amount + small
		op.real = value(func(tx *store.Tx) (Hold, error) { return SettleHold(tx, id, GPUUsage, used, e) })
		op.model = modelValue(func(m *model) (Hold, error) { return m.settleHold(id, used, e) })
	case "void":
		op.real = value(func(tx *store.Tx) (Hold, error) { return VoidHold(tx, id, e) })
		op.model = modelValue(func(m *model) (Hold, error) { return m.voidHold(id, e) })
	case "reconcile":
		op.real = value(func(tx *store.Tx) (Reconciled, error) {
			return Reconcile(tx, e.At, time.Minute, func(_ *store.Tx, r string) (Owner, error) { return owners[r], nil })
		})
		op.model = modelValue(func(m *model) (Reconciled, error) { return m.reconcile(e.At, time.Minute) })
	case "accept clock":
		op.real = value(func(tx *store.Tx) (time.Time, error) { return AcceptClock(tx, e.At) })
		op.model = modelValue(func(m *model) (time.Time, error) { return m.acceptClock(e.At), nil })
	case "cap":
		op.real = value(func(tx *store.Tx) (any, error) { return nil, SetKeyCap(tx, key, 50*max(0, small), 3, e.At) })
		op.model = modelValue(func(m *model) (any, error) { m.setCap(key, 50*max(0, small), 3, e.At); return nil, nil })
	case "clear cap":
		op.real = value(func(tx *store.Tx) (any, error) { return nil, ClearKeyCap(tx, key) })
		op.model = modelValue(func(m *model) (any, error) { delete(m.caps, key); return nil, nil })
	case "statement": // inside an Update, after what it and its neighbours wrote
		before := int64(e.Amount) % int64(len(w.m.rows)+2)
		op.real = value(func(tx *store.Tx) ([]Transfer, error) { return collect(Statement(tx, e.Account, before), 5) })
		op.model = modelValue(func(m *model) ([]Transfer, error) {
			return m.statement(e.Account, before, 5, func(Transfer) bool { return true }), nil
		})
	}
	return op
}

// run plays a group of updates, as one commit if the store makes one of them, and
// then the model in the order in which the ledger had them.
func (w *world) run(t *rapid.T, group []wish) {
	answers := make([][]string, len(group))
	errs := make([]error, len(group))
	turns := make([]int64, len(group)) // first runs: an update that is run again has kept its place
	runs := make([]int, len(group))
	var turn atomic.Int64
	do := func(n int) {
		u := group[n]
		errs[n] = w.s.Update(context.Background(), func(tx *store.Tx) error {
			if runs[n]++; turns[n] == 0 {
				turns[n] = turn.Add(1)
			}
			answers[n] = answers[n][:0]
			return u.play(func(op operation) (any, error) { return op.real(tx) }, &answers[n])
		})
	}
	w.together(len(group), do)
	order := make([]int, len(group))
	for n := range order {
		order[n] = n
	}
	slices.SortFunc(order, func(a, b int) int { return int(turns[a] - turns[b]) })
	w.count.groups++
	for _, n := range order {
		w.count.again += runs[n] - 1
		before := w.m.clone()
		var want []string
		err := group[n].play(func(op operation) (any, error) { return op.model(w.m) }, &want)
		if err != nil {
			if len(before.rows) != len(w.m.rows) {
				w.count.undone++
			}
			w.m = before
		}
		for i, got := range answers[n] {
			w.count.operations++
			if strings.HasPrefix(got, "refused") {
				w.count.refused++
			}
			if i >= len(want) || got != want[i] {
				t.Fatalf("%s\ngives  %s\nshould %s", group[n].ops[i].name, got, want[min(i, len(want)-1)])
			}
		}
		if len(want) != len(answers[n]) || describe(nil, errs[n]) != describe(nil, err) {
			t.Fatalf("update ended with %v after %d operations, the model with %v after %d", errs[n], len(answers[n]), err, len(want))
		}
	}
}

// together has the calls wait for a busy writer, so that they share a commit.
func (w *world) together(n int, do func(int)) {
	if n == 1 {
		do(0)
		return
	}
	begun, open := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = w.s.Update(context.Background(), func(*store.Tx) error {
			once.Do(func() { close(begun) })
			<-open
			return nil
		})
	})
	<-begun
	for i := range n {
		wg.Go(func() { do(i) })
		runtime.Gosched()
	}
	time.Sleep(50 * time.Microsecond)
	close(open)
	wg.Wait()
}

// play does an update's operations one after the other and notes what they give.
func (u wish) play(do func(operation) (any, error), answers *[]string) error {
	for _, op := range u.ops {
		v, err := do(op)
		*answers = append(*answers, describe(v, err))
		if err != nil && (!u.goOn || errors.As(err, new(*ClockError))) {
			return err
		}
	}
	if u.failAtEnd {
		return errEnd
	}
	return nil
}

// describe makes answers comparable: the ledger says more in its errors' texts, and
// a row has a hash only once it is committed.
func describe(v any, err error) string {
	for _, known := range []error{ErrKeyReused, ErrAmount, ErrNoHold, ErrHoldSettled, ErrNoReason, identity.ErrNotFound, errEnd} {
		if errors.Is(err, known) {
			return "refused: " + known.Error()
		}
	}
	if typed := typedError(err); typed != nil {
		return fmt.Sprintf("refused: %T %+v", typed, typed)
	}
	if err != nil {
		return "failed: " + err.Error()
	}
	switch x := v.(type) {
	case Transfer:
		x.Hash = Hash{}
		v = x
	case []Transfer:
		for n := range x {
			x[n].Hash = Hash{}
		}
	}
	out, err := json.Marshal(v)
	if err != nil {
		return "failed: " + err.Error()
	}
	return string(out)
}

func typedError(err error) error {
	var short *InsufficientError
	var over *OverageError
	var capped *CapError
	var clock *ClockError
	switch {
	case errors.As(err, &short):
		return short
	case errors.As(err, &over):
		return over
	case errors.As(err, &capped):
		return capped
	case errors.As(err, &clock):
		return clock
	}
	return nil
}
