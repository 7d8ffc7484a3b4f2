package lease

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

const (
	victimVariable = "ECOLINK_TEST_LEASE_VICTIM"
	// killsVariable is how many times TestKilledAtAnyMoment kills; 20 without it.
	killsVariable = "ECOLINK_TEST_LEASE_KILLS"
	victimCallers = 32
)

var victimConfig = Config{Block: 20_000, MinBlock: 1000, MaxBlock: 100_000, Idle: 30 * time.Millisecond, Log: quietLog()}

// beVictim charges until it is killed, and says on its output which requests
// Charge has returned for, and for how much.
func beVictim(dir string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	st, err := store.Open(filepath.Join(dir, "ecolink.db"))
	if err != nil {
		fail(err)
	}
	s, _, err := Open(context.Background(), st, filepath.Join(dir, "charges"), victimConfig)
	if err != nil {
		fail(err)
	}
	fmt.Println("ready")
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	for g := range victimCallers {
		go func() {
			for n := 0; ; n++ {
				a := identity.AccountID(1 + rand.IntN(3))
				r, err := s.Reserve(context.Background(), a, 0, 200)
				if err != nil {
					fail(err)
				}
				e := charge(ledger.MicroUSD(1+rand.IntN(300)), fmt.Sprintf("%s-%d-%d", run, g, n)) // some cost more
				if err := r.Charge(e); err != nil {
					fail(err)
				}
				if _, err := fmt.Printf("%s %d %d\n", e.RequestID, a, e.Amount); err != nil {
					fail(err)
				}
				if n%64 == 63 {
					time.Sleep(40 * time.Millisecond) // for leases to be given back
				}
			}
		}()
	}
	select {}
}

// kill runs a victim, kills it at a random moment and gives what it has said.
func kill(t *testing.T, dir string) (said []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimVariable+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		_ = cmd.Process.Kill()
		t.Fatalf("the victim did not start: %v", cmd.Wait())
	}
	timer := time.AfterFunc(time.Duration(rand.Int64N(int64(80*time.Millisecond))), func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	for lines.Scan() {
		if line := lines.Text(); strings.Count(line, " ") == 2 {
			said = append(said, line)
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the victim ended by itself: %v", err)
	}
	return said
}

func TestKilledAtAnyMomentNoChargeIsLostOrMadeTwice(t *testing.T) {
	kills := 20
	if testing.Short() {
		kills = 3
	}
	if text := os.Getenv(killsVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	w := newWorld(t, victimConfig)
	const credit = 1_000_000 * ledger.Dollar
	for a := identity.AccountID(1); a <= 3; a++ {
		w.credit(a, credit)
	}
	w.close()
	said := map[string]ledger.MicroUSD{}
	recovered := 0
	for n := range kills {
		w.store.Close()
		for _, line := range kill(t, w.folder) {
			var id string
			var a, amount int64
			if _, err := fmt.Sscan(line, &id, &a, &amount); err != nil {
				t.Fatal(err)
			}
			said[id] = ledger.MicroUSD(amount)
		}
		w.openStore()
		// Before anything is recovered the books agree, and what the log has is known.
		var before Audited
		err := w.store.View(func(tx *store.Tx) (err error) { before, err = Audit(tx, w.logs); return err })
		if err != nil {
			t.Fatal(err)
		}
		if n%5 == 0 {
			w.verify()
		}
		w.open()
		if w.found.Records != before.Records || w.found.Charged != before.Pending || w.found.Leases != before.Leases || w.found.Stuck != 0 || len(w.found.Unreadable) != 0 || len(w.found.Aside) != 0 {
			t.Fatalf("found %+v; the audit had %+v", w.found, before)
		}
		recovered += w.found.Records
		rows := w.verify()
		counted := requests(rows)
		var sum ledger.MicroUSD
		for _, row := range rows {
			sum += row.Amount
			if amount, known := said[row.RequestID]; counted[row.RequestID] != 1 || known && amount != row.Amount {
				t.Fatalf("request %s has %d rows, one of %s, and cost %s", row.RequestID, counted[row.RequestID], row.Amount, amount)
			}
		}
		for id := range said {
			if counted[id] != 1 {
				t.Fatalf("Charge returned for request %s, which has %d rows", id, counted[id])
			}
		}
		var total, out ledger.MicroUSD
		for a := identity.AccountID(1); a <= 3; a++ {
			m := w.wallet(a)
			total, out = total+m.Available, out+m.Out
			if m.Held != 0 {
				t.Fatalf("account %d has %s held", a, m.Held)
			}
		}
		if total+out != 3*credit || out != sum {
			t.Fatalf("%s available and %s charged of %s; the rows make %s", total, out, 3*credit, sum)
		}
		w.close()
	}
	t.Logf("%d kills, %d charges returned, %d records were recovered", kills, len(said), recovered)
	if len(said) == 0 || kills >= 20 && recovered == 0 {
		t.Fatal("nothing was tried")
	}
}
