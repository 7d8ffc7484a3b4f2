package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// The process that works on a database until it is killed. It says what it is
// about to do before it does it, and what it was told is done, on file 3.

const numAccounts = 24

// rich is what each account begins with: enough that nothing is refused.
const rich = 1_000_000 * ledger.Dollar

// job is what a working process is told to do, in its environment.
type job struct {
	Path    string        `json:"path"`
	Run     int           `json:"run"` // unique, for the names of its operations
	Workers int           `json:"workers"`
	Pause   time.Duration `json:"pause"` // the longest between two operations of a worker
	Syncs   syncs         `json:"syncs"`
}

type syncs string

const (
	syncsWork syncs = ""
	syncsLie  syncs = "lie"  // from the beginning
	syncsFail syncs = "fail" // from a while after the beginning
)

const jobEnv = "ECOLINK_TORTURE_JOB"

// line is what a working process says.
type line struct {
	Event event      `json:"event"`
	Op    string     `json:"op,omitempty"`
	Rows  []want     `json:"rows,omitempty"`  // about: that it will make
	Hold  *holdState `json:"hold,omitempty"`  // as the operation leaves it
	Seqs  []int64    `json:"seqs,omitempty"`  // done: the rows' numbers
	Error string     `json:"error,omitempty"` // failed
}

type event string

const (
	opening event = "opening"
	failing event = "failing" // the disk is about to fail
	about   event = "about"
	done    event = "done"
	undone  event = "undone" // the operation itself failed, after it had written
	failed  event = "failed" // the store could not do it
)

// want is a row that an operation makes.
type want struct {
	Type     ledger.Type        `json:"type"`
	Account  identity.AccountID `json:"account"`
	Amount   ledger.MicroUSD    `json:"amount"`
	FromHold bool               `json:"from_hold,omitempty"` // spends what was held
	Hold     ledger.HoldID      `json:"hold,omitempty"`      // 0 also for the hold that it places
	Key      string             `json:"key,omitempty"`
}

// holdState is what is compared of a hold.
type holdState struct {
	ID             ledger.HoldID      `json:"id"`
	Account        identity.AccountID `json:"account"`
	Amount, Used   ledger.MicroUSD
	Open           bool
	Refunded, Over ledger.MicroUSD
}

func stateOf(h ledger.Hold) holdState {
	s := holdState{ID: h.ID, Account: h.Account, Amount: h.Amount, Used: h.Used, Open: h.Settled == nil}
	if h.Settled != nil {
		s.Refunded, s.Over = h.Settled.Refunded, h.Settled.Over
	}
	return s
}

var errOnPurpose = errors.New("failed on purpose")

// teller writes lines, each whole or not at all.
type teller struct {
	mu  sync.Mutex
	out *os.File
}

func (t *teller) say(l line) {
	raw, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.out.Write(append(raw, '\n')); err != nil {
		os.Exit(3) // nobody listens
	}
}

// work is the process's main function. It comes back only when it can't go on.
func work() int {
	var j job
	if err := json.Unmarshal([]byte(os.Getenv(jobEnv)), &j); err != nil {
		fmt.Fprintln(os.Stderr, "job:", err)
		return 2
	}
	tell := &teller{out: os.NewFile(3, "lines")}
	if j.Syncs == syncsLie {
		if err := answerSyncs(0); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	tell.say(line{Event: opening})
	s, err := store.Open(j.Path)
	if err != nil {
		tell.say(line{Event: failed, Op: "open", Error: err.Error()})
		return 0
	}
	open, err := prepare(s, tell, j)
	if err != nil {
		tell.say(line{Event: failed, Op: "prepare", Error: err.Error()})
		return 0
	}
	if j.Syncs == syncsFail {
		time.AfterFunc(20*time.Millisecond, func() {
			tell.say(line{Event: failing})
			if err := answerSyncs(unix.EIO); err != nil {
				panic(err)
			}
		})
	}
	var all sync.WaitGroup
	for n := range j.Workers {
		w := &worker{store: s, tell: tell, name: fmt.Sprintf("%d/%d", j.Run, n), pause: j.Pause, rng: rand.New(rand.NewPCG(uint64(j.Run), uint64(n)))}
		for _, h := range open {
			if int(h.ID)%j.Workers == n {
				w.holds = append(w.holds, h)
			}
		}
		all.Go(w.run)
	}
	all.Wait()
	return 0
}

// prepare makes the accounts with their first money, in one update, if they are
// not there, and finds the open holds.
func prepare(s *store.Store, tell *teller, j job) (open []ledger.Hold, err error) {
	var accounts []identity.Account
	err = s.View(func(tx *store.Tx) (err error) {
		if accounts, err = identity.ListAccounts(tx, numAccounts, 0); err != nil {
			return err
		}
		for _, a := range accounts {
			holds, err := ledger.OpenHolds(tx, a.ID)
			if err != nil {
				return err
			}
			open = append(open, holds...)
		}
		return nil
	})
	switch {
	case err != nil || len(accounts) == numAccounts:
		return open, err
	case len(accounts) > 0:
		return nil, fmt.Errorf("there are %d accounts of %d", len(accounts), numAccounts)
	}
	w := &worker{store: s, tell: tell, name: fmt.Sprintf("%d/setup", j.Run)}
	rows := make([]want, numAccounts)
	for n := range rows {
		rows[n] = want{Type: ledger.TopUp, Account: identity.AccountID(n + 1), Amount: rich}
	}
	return nil, w.do(rows, nil, func(tx *store.Tx, op string) (seqs []int64, _ *ledger.Hold, err error) {
		for _, r := range rows {
			a, err := identity.CreateAccount(tx, fmt.Sprintf("account %d", r.Account), time.Now())
			if err != nil {
				return nil, nil, err
			}
			if a.ID != r.Account {
				return nil, nil, fmt.Errorf("account %d has the number %d", r.Account, a.ID)
			}
			t, err := ledger.Credit(tx, r.entry(op))
			if err != nil {
				return nil, nil, err
			}
			seqs = append(seqs, t.Seq)
		}
		return seqs, nil, nil
	})
}

// entry is what the operation asks the ledger for.
func (r want) entry(op string) ledger.Entry {
	return ledger.Entry{At: time.Now(), Account: r.Account, Amount: r.Amount, RequestID: op, Key: r.Key}
}

// worker does one operation after the other. Its holds are its own.
type worker struct {
	store *store.Store
	tell  *teller
	name  string
	rng   *rand.Rand
	pause time.Duration
	n     int
	holds []ledger.Hold
}

func (w *worker) run() {
	for {
		if err := w.step(); err != nil {
			return
		}
		if w.pause > 0 && w.rng.IntN(3) == 0 {
			time.Sleep(time.Duration(w.rng.Int64N(int64(w.pause))))
		}
	}
}

type operation func(tx *store.Tx, op string) (seqs []int64, h *ledger.Hold, err error)

// do announces an operation, does it, and says what came of it. Its error is one
// after which the worker can't go on.
func (w *worker) do(rows []want, hold *holdState, fn operation) error {
	w.n++
	op := fmt.Sprintf("%s/%d", w.name, w.n)
	w.tell.say(line{Event: about, Op: op, Rows: rows, Hold: hold})
	var seqs []int64
	var after *ledger.Hold
	err := w.store.Update(context.Background(), func(tx *store.Tx) (err error) {
		seqs, after, err = fn(tx, op)
		return err
	})
	switch {
	case errors.Is(err, errOnPurpose):
		w.tell.say(line{Event: undone, Op: op})
		return nil
	case err != nil:
		l := line{Event: failed, Op: op, Error: err.Error()}
		w.tell.say(l)
		return err
	}
	l := line{Event: done, Op: op, Seqs: seqs}
	if after != nil {
		s := stateOf(*after)
		l.Hold = &s
	}
	w.tell.say(l)
	return nil
}
