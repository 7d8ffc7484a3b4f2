package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// shelf is a ledger with one of each: alice has $90 available, hold 1 open ($5, up
// to $0.50 over it) and hold 2 settled; API key 9 has a cap of $2 and has spent
// $1; bob has a hold. content is all of it that a refused call could have changed.
func shelf(t *testing.T) *store.Store {
	s := newStore(t)
	update(t, s, func(tx *store.Tx) error {
		_, err1 := Credit(tx, Entry{At: noon, Account: alice, Amount: usd("100"), Key: "credit", Resource: "invoice/1", Description: "paid"})
		_, err2 := Credit(tx, Entry{At: noon, Account: 2, Amount: usd("10")})
		h1, err3 := PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("5"), Resource: "gpu-instance/1", Key: "place"}, HoldTerms{Overage: usd("0.50")})
		h2, err4 := PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("4"), Resource: "gpu-instance/2"}, HoldTerms{})
		_, err5 := SettleHold(tx, h2.ID, GPUUsage, usd("4"), Entry{At: noon})
		err6 := SetKeyCap(tx, 9, usd("2"), 0, noon)
		_, err7 := Charge(tx, APIUsage, chargeEntry())
		_, err8 := Correct(tx, Entry{At: noon, Account: alice, Amount: -1, Key: "correct", Description: "rounding"})
		_, err9 := ChargeHold(tx, h1.ID, GPUUsage, Entry{At: noon, Amount: 1, Key: "part"})
		_, err10 := PlaceHold(tx, Entry{At: noon, Account: 2, Amount: usd("5"), Resource: "gpu-instance/3"}, HoldTerms{})
		return errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9, err10)
	})
	return s
}

func chargeEntry() Entry {
	return Entry{At: noon, Account: alice, Amount: usd("1"), Resource: "model/llama", Key: "charge", APIKey: 9, Tag: "web", Usage: Usage{Model: "llama", InputTokens: 7}, Description: "call"}
}

type content struct {
	Wallets []Wallet
	Holds   []Hold
	Open    [][]Hold
	Cap     KeyCap
	Front   front
}

func contentOf(t *testing.T, s *store.Store) (c content) {
	t.Helper()
	err := s.View(func(tx *store.Tx) (err error) {
		for a := identity.AccountID(1); a <= 4; a++ {
			w, err := WalletOf(tx, a)
			if err != nil {
				return err
			}
			open, err := OpenHolds(tx, a)
			if err != nil {
				return err
			}
			c.Wallets, c.Open = append(c.Wallets, w), append(c.Open, open)
		}
		for rec, err := range holds.All(tx) {
			if err != nil {
				return err
			}
			c.Holds = append(c.Holds, rec.Value)
		}
		if c.Cap, _, err = CapOf(tx, 9, noon); err != nil {
			return err
		}
		c.Front, err = readFront(tx)
		c.Front.tail = []byte(string(c.Front.tail)) // the transaction's memory
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func is(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

func as[E error](same func(E) bool) func(error) bool {
	return func(err error) bool {
		var e E
		return errors.As(err, &e) && (same == nil || same(e))
	}
}

type call func(tx *store.Tx) error

func credit(change func(*Entry)) call {
	return func(tx *store.Tx) error {
		e := Entry{At: noon, Account: alice, Amount: usd("1")}
		change(&e)
		_, err := Credit(tx, e)
		return err
	}
}

func charge(kind Type, change func(*Entry)) call {
	return func(tx *store.Tx) error {
		e := chargeEntry()
		change(&e)
		_, err := Charge(tx, kind, e)
		return err
	}
}

func place(terms HoldTerms, change func(*Entry)) call {
	return func(tx *store.Tx) error {
		e := Entry{At: noon, Account: alice, Amount: usd("5"), Resource: "gpu-instance/1"}
		change(&e)
		_, err := PlaceHold(tx, e, terms)
		return err
	}
}

func extend(id HoldID, e Entry) call {
	return func(tx *store.Tx) error { _, _, err := ExtendHold(tx, id, e, noon.Add(time.Hour)); return err }
}

func settle(id HoldID, kind Type, used MicroUSD, e Entry) call {
	return func(tx *store.Tx) error { _, err := SettleHold(tx, id, kind, used, e); return err }
}

func chargeOf(id HoldID, kind Type, e ...Entry) call {
	return func(tx *store.Tx) error { _, err := ChargeHold(tx, id, kind, e...); return err }
}

func void(id HoldID) call {
	return func(tx *store.Tx) error { _, err := VoidHold(tx, id, Entry{At: noon}); return err }
}

func corrected(change func(*Entry)) call {
	return func(tx *store.Tx) error {
		e := Entry{At: noon, Account: alice, Amount: -1, Description: "rounding"}
		change(&e)
		_, err := Correct(tx, e)
		return err
	}
}

func at(when time.Time) func(*Entry)       { return func(e *Entry) { e.At = when } }
func amount(m MicroUSD) func(*Entry)       { return func(e *Entry) { e.Amount = m } }
func of(a identity.AccountID) func(*Entry) { return func(e *Entry) { e.Account = a } }
func text(field func(*Entry) *string) func(*Entry) {
	return func(e *Entry) { *field(e), e.Key = strings.Repeat("x", maxWordBytes+1), "" }
}

func TestBadInputIsRefusedByItsKindAndChangesNothing(t *testing.T) {
	now := Entry{At: noon, Amount: usd("1")}
	tooLong := as(func(e *TextError) bool { return e.Limit == maxWordBytes })
	short := as[*InsufficientError](nil)
	over := as[*OverageError](nil)
	clock := as[*ClockError](nil)
	reused := is(ErrKeyReused)
	fresh := func(e *Entry) { e.Key = "" }
	refused := func(err error) bool { return err != nil }
	cases := map[string]struct {
		do   call
		want func(error) bool
	}{
		"credit of zero":                  {credit(amount(0)), is(ErrAmount)},
		"credit below zero":               {credit(amount(-5)), is(ErrAmount)},
		"credit of the least number":      {credit(amount(math.MinInt64)), is(ErrAmount)},
		"credit that overflows":           {credit(amount(math.MaxInt64)), is(ErrTooMuch)},
		"credit of more than a row moves": {credit(amount(maxAmount + 1)), is(ErrTooMuch)},
		"credit that overflows a book":    {credit(func(e *Entry) { e.Account, e.Amount = 3, math.MaxInt64-usd("109") }), is(ErrTooMuch)},
		"credit to an unknown account":    {credit(of(4)), is(identity.ErrNotFound)},
		"credit by an API key below 0":    {credit(func(e *Entry) { e.APIKey = -1 }), refused},
		"credit to account 0":             {credit(of(0)), is(identity.ErrNotFound)},
		"credit to an account below 0":    {credit(of(-1)), is(identity.ErrNotFound)},
		"bonus of zero":                   {func(tx *store.Tx) error { _, err := GiveBonus(tx, Entry{At: noon, Account: alice}); return err }, is(ErrAmount)},
		"charge of zero":                  {charge(APIUsage, func(e *Entry) { e.Key, e.Amount = "", 0 }), is(ErrAmount)},
		"charge below zero":               {charge(APIUsage, func(e *Entry) { e.Key, e.Amount = "", -1 }), is(ErrAmount)},
		"charge of more than there is":    {charge(APIUsage, func(e *Entry) { e.Key, e.APIKey, e.Amount = "", 0, usd("90.000001") }), short},
		"charge of the greatest number":   {charge(APIUsage, func(e *Entry) { e.Key, e.APIKey, e.Amount = "", 0, math.MaxInt64 }), is(ErrTooMuch)},
		"charge of an unknown account":    {charge(APIUsage, of(4)), is(identity.ErrNotFound)},
		"charge as a top-up":              {charge(TopUp, fresh), is(ErrNotUsage)},
		"charge as a refund":              {charge(Refund, fresh), is(ErrNotUsage)},
		"charge as nothing":               {charge("", fresh), is(ErrNotUsage)},
		"charge over the key's cap":       {charge(APIUsage, func(e *Entry) { e.Key, e.Amount = "", usd("1.000001") }), as(func(e *CapError) bool { return e.APIKey == 9 && e.Spent == usd("1") })},
		"hold over the key's cap":         {place(HoldTerms{}, func(e *Entry) { e.APIKey = 9 }), as[*CapError](nil)},
		"extension over the key's cap":    {extend(1, Entry{At: noon, Amount: usd("2"), APIKey: 9}), as[*CapError](nil)},
		"hold of zero":                    {place(HoldTerms{}, amount(0)), is(ErrAmount)},
		"hold of more than there is":      {place(HoldTerms{}, amount(usd("91"))), short},
		"hold with an overage below 0":    {place(HoldTerms{Overage: -1}, fresh), is(ErrAmount)},
		"hold with more overdraft":        {place(HoldTerms{Overage: 1, Overdraft: 2}, fresh), is(ErrAmount)},
		"extension of no hold":            {extend(99, now), is(ErrNoHold)},
		"extension of hold 0":             {extend(0, now), is(ErrNoHold)},
		"extension by zero":               {extend(1, Entry{At: noon}), is(ErrAmount)},
		"extension of a settled hold":     {extend(2, now), is(ErrHoldSettled)},
		"extension without the money":     {extend(1, Entry{At: noon, Amount: usd("91")}), short},
		"part of no hold":                 {chargeOf(99, GPUUsage, now), is(ErrNoHold)},
		"part of a settled hold":          {chargeOf(2, GPUUsage, now), is(ErrHoldSettled)},
		"part that is larger":             {chargeOf(1, GPUUsage, Entry{At: noon, Amount: usd("5")}), over},
		"parts that overflow":             {chargeOf(1, GPUUsage, Entry{At: noon, Amount: math.MaxInt64}, now), is(ErrOverflow)},
		"second part that is larger":      {chargeOf(1, GPUUsage, now, Entry{At: noon, Amount: usd("4")}), over},
		"second part of zero":             {chargeOf(1, GPUUsage, now, Entry{At: noon}), is(ErrAmount)},
		"part as a bonus":                 {chargeOf(1, Bonus, now), is(ErrNotUsage)},
		"two parts with one key":          {chargeOf(1, GPUUsage, Entry{At: noon, Amount: 1, Key: "x"}, Entry{At: noon, Amount: 1, Key: "x"}), reused},
		"settlement of no hold":           {settle(99, GPUUsage, 0, now), is(ErrNoHold)},
		"settlement below zero":           {settle(1, GPUUsage, -1, now), is(ErrAmount)},
		"settlement beyond its overage":   {settle(1, GPUUsage, usd("5.50"), now), as(func(e *OverageError) bool { return e.Hold == 1 && e.Limit == usd("5.499999") })},
		"settlement of a lot":             {settle(1, GPUUsage, math.MaxInt64, now), over},
		"second settlement":               {settle(2, GPUUsage, usd("1"), now), is(ErrHoldSettled)},
		"settlement as a top-up":          {settle(1, TopUp, usd("1"), now), is(ErrNotUsage)},
		"voiding of no hold":              {void(99), is(ErrNoHold)},
		"voiding of a settled hold":       {void(2), is(ErrHoldSettled)},
		"correction by zero":              {corrected(amount(0)), is(ErrAmount)},
		"correction without a reason":     {corrected(func(e *Entry) { e.Description = " \t" }), is(ErrNoReason)},
		"correction with a broken one":    {corrected(func(e *Entry) { e.Description = "\xff" }), is(ErrNoReason)},
		"correction below nothing":        {corrected(amount(-usd("96"))), short},
		"correction by the least":         {corrected(amount(math.MinInt64)), short},
		"correction that overflows":       {corrected(amount(math.MaxInt64)), is(ErrTooMuch)},
		"correction of nobody":            {corrected(func(e *Entry) { e.Account, e.Amount = 4, 1 }), is(identity.ErrNotFound)},
		"cap below zero":                  {func(tx *store.Tx) error { return SetKeyCap(tx, 9, -1, 0, noon) }, is(ErrAmount)},

		"resource too long":       {credit(text(func(e *Entry) *string { return &e.Resource })), tooLong},
		"request id too long":     {credit(text(func(e *Entry) *string { return &e.RequestID })), tooLong},
		"tag too long":            {credit(text(func(e *Entry) *string { return &e.Tag })), tooLong},
		"model too long":          {credit(text(func(e *Entry) *string { return &e.Usage.Model })), tooLong},
		"key too long":            {credit(func(e *Entry) { e.Key = strings.Repeat("k", maxWordBytes+1) }), tooLong},
		"hold's resource":         {place(HoldTerms{}, text(func(e *Entry) *string { return &e.Resource })), tooLong},
		"correction's key":        {corrected(func(e *Entry) { e.Key = strings.Repeat("k", maxWordBytes+1) }), tooLong},
		"charge's tag too long":   {charge(APIUsage, text(func(e *Entry) *string { return &e.Tag })), tooLong},
		"settlement's request id": {settle(1, GPUUsage, 1, Entry{At: noon, RequestID: strings.Repeat("r", 300)}), tooLong},

		"credit by a clock put back":     {credit(at(noon.Add(-clockTolerance - 1))), as(func(e *ClockError) bool { return e.Newest.Equal(noon) })},
		"charge by a clock put back":     {charge(APIUsage, func(e *Entry) { e.Key, e.At = "", noon.AddDate(0, 0, -1) }), clock},
		"hold by a clock put back":       {place(HoldTerms{}, at(noon.Add(-time.Hour))), clock},
		"settlement by a clock put back": {settle(1, GPUUsage, 1, Entry{At: noon.Add(-time.Hour)}), clock},
		"a time that nobody set":         {credit(at(time.Time{})), clock},

		"credit's key, amount": {credit(func(e *Entry) { e.Key, e.Resource, e.Description = "credit", "invoice/1", "paid" }), reused},
		"credit's key for a bonus": {func(tx *store.Tx) error {
			_, err := GiveBonus(tx, Entry{At: noon, Account: alice, Amount: usd("100"), Key: "credit", Resource: "invoice/1", Description: "paid"})
			return err
		}, reused},
		"credit's key, correction":  {corrected(func(e *Entry) { e.Key = "credit" }), reused},
		"charge's key, amount":      {charge(APIUsage, amount(usd("0.99"))), reused},
		"charge's key, resource":    {charge(APIUsage, func(e *Entry) { e.Resource = "model/qwen" }), reused},
		"charge's key, type":        {charge(StorageBilling, func(*Entry) {}), reused},
		"charge's key, description": {charge(APIUsage, func(e *Entry) { e.Description = "" }), reused},
		"charge's key, model":       {charge(APIUsage, func(e *Entry) { e.Usage.Model = "qwen" }), reused},
		"charge's key, usage":       {charge(APIUsage, func(e *Entry) { e.Usage.InputTokens++ }), reused},
		"charge's key, tag":         {charge(APIUsage, func(e *Entry) { e.Tag = "cron" }), reused},
		"correction's key, amount":  {corrected(func(e *Entry) { e.Key, e.Amount = "correct", -2 }), reused},
		"correction's key, reason":  {corrected(func(e *Entry) { e.Key, e.Description = "correct", "else" }), reused},
		"correction's key, credit":  {credit(func(e *Entry) { e.Key = "correct" }), reused},
		"hold's key, amount":        {place(HoldTerms{}, func(e *Entry) { e.Key, e.Amount = "place", 7 }), reused},
		"hold's key, resource":      {place(HoldTerms{}, func(e *Entry) { e.Key, e.Resource = "place", "gpu-instance/9" }), reused},
		"hold's key, extension":     {extend(1, Entry{At: noon, Amount: usd("4"), Key: "place"}), reused},
		"part's key, amount":        {chargeOf(1, GPUUsage, Entry{At: noon, Amount: 2, Key: "part"}), reused},
		"part's key, type":          {chargeOf(1, InferenceUsage, Entry{At: noon, Amount: 1, Key: "part"}), reused},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shelf(t)
			before := contentOf(t, s)
			err := s.Update(context.Background(), c.do)
			if !c.want(err) {
				t.Errorf("got %T: %v", err, err)
			}
			if after := contentOf(t, s); !reflect.DeepEqual(after, before) {
				t.Errorf("before %+v\nafter  %+v", before, after)
			}
			// The same refusal, from a caller who goes on: it has left nothing in the
			// transaction either.
			update(t, s, func(tx *store.Tx) error {
				if err := c.do(tx); !c.want(err) {
					return fmt.Errorf("got %T: %w", err, err)
				}
				return nil
			})
			if after := contentOf(t, s); !reflect.DeepEqual(after, before) {
				t.Errorf("swallowed: before %+v\nafter  %+v", before, after)
			}
			if _, err := verify(s); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRepeatedCallsGiveTheFirstAnswerAndChangeNothing(t *testing.T) {
	s := shelf(t)
	before := contentOf(t, s)
	for name, do := range map[string]call{
		"charge":     charge(APIUsage, func(e *Entry) { e.At, e.RequestID = noon.Add(time.Hour), "another try" }),
		"credit":     credit(func(e *Entry) { e.Amount, e.Key, e.Resource, e.Description = usd("100"), "credit", "invoice/1", "paid" }),
		"hold":       place(HoldTerms{}, func(e *Entry) { e.Key = "place" }),
		"part":       chargeOf(1, GPUUsage, Entry{At: noon, Amount: 1, Key: "part"}),
		"correction": corrected(func(e *Entry) { e.Key = "correct" }),
		"no part":    chargeOf(1, GPUUsage),
	} {
		update(t, s, do)
		if after := contentOf(t, s); !reflect.DeepEqual(after, before) {
			t.Errorf("%s: before %+v\nafter  %+v", name, before, after)
		}
	}
	// The same key is another account's own.
	update(t, s, charge(APIUsage, func(e *Entry) { e.Account, e.APIKey = 2, 0 }))
	if w := moneyOf(t, s, 2); w.Available != usd("4") {
		t.Errorf("bob has %+v", w)
	}
	if _, err := verify(s); err != nil {
		t.Error(err)
	}
}

func TestRowIsNeverEarlierThanTheOneBeforeAndALongTextIsCut(t *testing.T) {
	s := shelf(t)
	var row Transfer
	update(t, s, func(tx *store.Tx) (err error) {
		row, err = Credit(tx, Entry{At: noon.Add(-clockTolerance), Account: alice, Amount: 1, Description: strings.Repeat("é", maxDescriptionBytes)})
		return err
	})
	if !row.At.Equal(noon) || len(row.Description) != maxDescriptionBytes {
		t.Errorf("%s, %d bytes", row.At, len(row.Description))
	}
}

func TestOneOfTwoRacingSettlementsWins(t *testing.T) {
	for round := range 20 {
		s := shelf(t)
		errs := make(chan error, 2)
		for n := range 2 {
			go func() {
				errs <- s.Update(context.Background(), settle(1, GPUUsage, MicroUSD(n+1), Entry{At: noon}))
			}()
		}
		first, second := <-errs, <-errs
		if first != nil {
			first, second = second, first
		}
		if first != nil || !errors.Is(second, ErrHoldSettled) {
			t.Fatalf("round %d: %v and %v", round, first, second)
		}
		c := contentOf(t, s)
		if h := c.Holds[0]; c.Wallets[0].Held != 0 || h.Used+h.Settled.Refunded != h.Amount {
			t.Fatalf("%+v", h)
		}
		if _, err := verify(s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCorrectionTakesFromTheNewestHoldFirst(t *testing.T) {
	s := newStore(t)
	update(t, s, func(tx *store.Tx) error {
		_, err := Credit(tx, Entry{At: noon, Account: alice, Amount: 10})
		for range 2 {
			_, more := PlaceHold(tx, Entry{At: noon, Account: alice, Amount: 4}, HoldTerms{})
			err = errors.Join(err, more)
		}
		_, more := Correct(tx, Entry{At: noon, Account: alice, Amount: -7, Description: "chargeback"})
		return errors.Join(err, more)
	})
	if c := contentOf(t, s); c.Holds[1].Taken != 4 || c.Holds[0].Taken != 1 || c.Wallets[0].Total() != 3 {
		t.Fatalf("%+v", c.Holds)
	}
}

func TestWhatComesBackInALaterMonthDoesNotRaiseThatMonthsCap(t *testing.T) {
	s := newStore(t)
	next := noon.AddDate(0, 1, 0)
	var spent KeyCap
	update(t, s, func(tx *store.Tx) error {
		_, err1 := Credit(tx, Entry{At: noon, Account: alice, Amount: 100})
		err2 := SetKeyCap(tx, 9, 20, 0, noon)
		h, err3 := PlaceHold(tx, Entry{At: noon, Account: alice, Amount: 10, APIKey: 9}, HoldTerms{})
		_, err4 := Charge(tx, APIUsage, Entry{At: next, Account: alice, Amount: 15, APIKey: 9})
		_, err5 := VoidHold(tx, h.ID, Entry{At: next})
		c, _, err6 := CapOf(tx, 9, next)
		spent = c
		return errors.Join(err1, err2, err3, err4, err5, err6)
	})
	if spent.Spent != 15 {
		t.Fatalf("%+v", spent)
	}
}
