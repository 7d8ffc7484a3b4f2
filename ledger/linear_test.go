package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// ask is what a client does to one account, and reply what it gets. Both are
// recorded with the times of call and return.
type ask struct {
	account identity.AccountID
	what    string // credit, charge, place, settle, read
	amount  MicroUSD
	hold    HoldID
	owed    MicroUSD // of settle: what the client's hold has
}

type reply struct {
	refused bool
	wallet  Wallet // after it, or as it was read
}

// one account as a sequence of operations would have it: what the order of the
// concurrent ones must be explained by.
var oneAccount = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byAccount := map[identity.AccountID][]porcupine.Operation{}
		for _, op := range history {
			a := op.Input.(ask).account
			byAccount[a] = append(byAccount[a], op)
		}
		var out [][]porcupine.Operation
		for _, ops := range byAccount {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return Wallet{} },
	Step: func(state, input, output any) (bool, any) {
		w, in, out := state.(Wallet), input.(ask), output.(reply)
		next := w
		switch in.what {
		case "credit":
			next.Available, next.In = w.Available+in.amount, w.In+in.amount
		case "charge":
			next.Available, next.Out = w.Available-in.amount, w.Out+in.amount
		case "place":
			next.Available, next.Held = w.Available-in.amount, w.Held+in.amount
		case "settle":
			next.Available, next.Held, next.Out = w.Available+in.owed-in.amount, w.Held-in.owed, w.Out+in.amount
		}
		if out.refused {
			return next.Available < 0, w
		}
		return next.Available >= 0 && out.wallet == next, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

func TestConcurrentOperationsAreAsIfOneAfterTheOther(t *testing.T) {
	const clients, each, accounts = 12, 150, 3
	s := newStore(t)
	begun := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	refused := 0
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(c)))
			var mine []ask // holds that this client placed
			for range each {
				in := ask{account: identity.AccountID(r.IntN(accounts) + 1), amount: MicroUSD(r.IntN(20) + 1)}
				in.what = []string{"credit", "charge", "charge", "place", "settle", "read"}[r.IntN(6)]
				if in.what == "settle" {
					if len(mine) == 0 {
						continue
					}
					h := mine[len(mine)-1]
					mine = mine[:len(mine)-1]
					in.account, in.hold, in.owed, in.amount = h.account, h.hold, h.amount, MicroUSD(r.Int64N(int64(h.amount)+1))
				}
				call := time.Since(begun)
				out, hold, err := in.do(s)
				back := time.Since(begun)
				if err != nil {
					t.Error(err)
					return
				}
				if in.what == "place" && !out.refused {
					mine = append(mine, ask{account: in.account, hold: hold, amount: in.amount})
				}
				mu.Lock()
				if out.refused {
					refused++
				}
				history = append(history, porcupine.Operation{ClientId: c, Input: in, Call: int64(call), Output: out, Return: int64(back)})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := porcupine.CheckOperationsTimeout(oneAccount, history, 8*time.Second); got == porcupine.Illegal {
		t.Fatalf("no order of the %d operations explains what they gave", len(history))
	} else if got == porcupine.Unknown {
		t.Errorf("the order of %d operations was not found in time", len(history))
	}
	if _, err := verify(s); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations of %d clients on %d accounts, %d refused", len(history), clients, accounts, refused)
}

// do is the client's call. A read is a View of its own, and not what a write saw.
func (in ask) do(s *store.Store) (out reply, hold HoldID, err error) {
	run := func(fn func(*store.Tx) error) error { return s.Update(context.Background(), fn) }
	if in.what == "read" {
		run = s.View
	}
	e := Entry{At: noon, Account: in.account, Amount: in.amount}
	err = run(func(tx *store.Tx) (err error) {
		switch in.what {
		case "credit":
			_, err = Credit(tx, e)
		case "charge":
			_, err = Charge(tx, APIUsage, e)
		case "place":
			var h Hold
			h, err = PlaceHold(tx, e, HoldTerms{})
			hold = h.ID
		case "settle":
			_, err = SettleHold(tx, in.hold, GPUUsage, in.amount, e)
		}
		if err == nil {
			out.wallet, err = WalletOf(tx, in.account)
		}
		return err
	})
	if errors.As(err, new(*InsufficientError)) {
		return reply{refused: true}, 0, nil
	}
	return out, hold, err
}

// The checker must be able to say no: a read of a balance from before a charge that
// had been answered.
func TestCheckerFindsAStaleRead(t *testing.T) {
	history := []porcupine.Operation{
		{ClientId: 0, Input: ask{account: alice, what: "credit", amount: 5}, Call: 0, Output: reply{wallet: Wallet{Available: 5, In: 5}}, Return: 1},
		{ClientId: 1, Input: ask{account: alice, what: "charge", amount: 5}, Call: 2, Output: reply{wallet: Wallet{In: 5, Out: 5}}, Return: 3},
		{ClientId: 2, Input: ask{account: alice, what: "read"}, Call: 4, Output: reply{wallet: Wallet{Available: 5, In: 5}}, Return: 5},
	}
	if porcupine.CheckOperations(oneAccount, history) {
		t.Fatal("a stale read was taken for a good one")
	}
}

// Money goes from account to account, as a charge of one and a credit of the other
// in one update, while others read all of it: at every moment all books together
// make zero, the wallets have what the books say, and none is below zero.
func TestEveryReadSeesAllMoney(t *testing.T) {
	const accounts, writers, readers, each = 5, 6, 3, 80
	s := newStore(t)
	update(t, s, func(tx *store.Tx) error {
		for n := range 2 { // besides the three that are there
			if _, err := identity.CreateAccount(tx, fmt.Sprint("more ", n), noon); err != nil {
				return err
			}
		}
		for a := range accounts {
			if _, err := Credit(tx, Entry{At: noon, Account: identity.AccountID(a + 1), Amount: 100}); err != nil {
				return err
			}
		}
		return nil
	})
	stop := make(chan struct{})
	var reading, writing sync.WaitGroup
	var mu sync.Mutex
	reads, moved := 0, 0
	for range readers {
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.View(func(tx *store.Tx) error { return allMoney(tx, accounts) }); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				reads++
				mu.Unlock()
				time.Sleep(20 * time.Microsecond)
			}
		})
	}
	for c := range writers {
		writing.Go(func() {
			r := rand.New(rand.NewPCG(11, uint64(c)))
			for range each {
				from, to := identity.AccountID(r.IntN(accounts)+1), identity.AccountID(r.IntN(accounts)+1)
				amount := MicroUSD(r.IntN(60) + 1)
				err := s.Update(context.Background(), func(tx *store.Tx) error {
					if _, err := Credit(tx, Entry{At: noon, Account: to, Amount: amount}); err != nil {
						return err
					}
					// Too little: the credit, which is already written, must go.
					_, err := Charge(tx, APIUsage, Entry{At: noon, Account: from, Amount: amount})
					return err
				})
				if err != nil && !errors.As(err, new(*InsufficientError)) {
					t.Error(err)
					return
				}
				if err == nil {
					mu.Lock()
					moved++
					mu.Unlock()
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
	if r, err := verify(s); err != nil || r.Holding != accounts*100 {
		t.Fatalf("%+v, %v", r, err)
	}
	t.Logf("%d of %d transfers, %d reads of everything", moved, writers*each, reads)
}

func allMoney(tx *store.Tx, accounts int64) error {
	var inWallets MicroUSD
	for a := range accounts {
		w, err := WalletOf(tx, identity.AccountID(a+1))
		if err != nil {
			return err
		}
		if w.Available < 0 || w.Held < 0 || w.Total() != w.In-w.Out {
			return fmt.Errorf("account %d is seen with %+v", a+1, w)
		}
		inWallets += w.Total()
	}
	f, err := readFront(tx)
	if err != nil {
		return err
	}
	var sum MicroUSD
	for _, b := range f.totals {
		sum += b.Net()
	}
	booked := f.totals[bookAvailable].Net() + f.totals[bookHeld].Net()
	if sum != 0 || inWallets != booked || inWallets != MicroUSD(accounts*100) {
		return fmt.Errorf("the books make %s, the wallets have %s, and %s is booked in them", sum, inWallets, booked)
	}
	return nil
}
