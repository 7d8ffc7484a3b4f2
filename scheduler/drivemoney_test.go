package scheduler

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/drives"
	"ecolink/ledger/store"
)

// A month of creating, growing, snapshots, deletions, empty wallets and kills costs
// what a clerk works out who knows only when which size was there, and that it was
// paid for: $0.31 a GB and month, by the second. The rows add up to that, for each
// drive, within a micro-dollar for each piece of time that was billed apart.
func TestAMonthOfStorageCostsWhatAClerkWorksOut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t, 1)
			defer b.close()
			b.priceDrives()
			// On a machine where each thing takes a while.
			b.machine.FailWith(func(string, string) (before, after error) { return nil, nil })
			c := &clerk{box: b, since: map[DriveID]time.Time{}, gb: map[DriveID]int64{}, cost: map[DriveID]*big.Rat{}, pieces: map[DriveID]int64{}}
			begun := time.Now()
			for n := 0; time.Since(begun) < 30*24*time.Hour; n++ {
				c.act(rt, n)
				b.settle()
				c.look()
				b.pass(time.Duration(rapid.Int64Range(1, int64(18*time.Hour/time.Second)).Draw(rt, "seconds")) * time.Second)
				c.look()
			}
			c.compare()
		})
	})
}

// clerk keeps accounts of its own. It looks whenever something may have changed;
// what changes by itself in between is midnight's, and is read from the records.
type clerk struct {
	*box
	since  map[DriveID]time.Time // up to when cost is
	gb     map[DriveID]int64     // that it has had since then; 0: nothing that costs
	cost   map[DriveID]*big.Rat  // in micro-dollars
	pieces map[DriveID]int64     // rows that there may be
}

func (c *clerk) act(rt *rapid.T, n int) {
	id := DriveID(rapid.Int64Range(1, 4).Draw(rt, "drive"))
	d := c.readDrive(id)
	switch op := rapid.IntRange(0, 8).Draw(rt, "op"); {
	case op == 0 || d.Kind == "":
		r := driveRequest(fmt.Sprint("d", n), rapid.Int64Range(1, 150).Draw(rt, "gb"))
		if rapid.Bool().Draw(rt, "shared") {
			r.Kind = drives.SharedFilesystem
		}
		c.CreateDrive(background, r)
	case op == 1:
		c.GrowDrive(background, alice, d.Kind, id, d.GB+rapid.Int64Range(1, 50).Draw(rt, "more"))
	case op == 2:
		c.SnapshotDrive(background, alice, d.Kind, id, "s", "")
	case op == 3:
		c.DeleteSnapshot(background, alice, d.Kind, id, "s")
	case op == 4:
		c.RestoreDrive(background, alice, d.Kind, id, "s", "")
	case op == 5:
		c.DeleteDrive(background, alice, d.Kind, id)
	case op == 6 && c.wallet(alice).Total() > 0:
		c.take("0") // suspended now
	case op == 7:
		c.topUp(rapid.SampledFrom([]string{"0.50", "20", "100"}).Draw(rt, "amount")) // the least does not last
	case op == 8:
		c.restart()
	}
}

// look writes down what each drive has cost since the last look, and what it has now.
func (c *clerk) look() {
	now := time.Now()
	c.view(func(tx *store.Tx) error {
		for id := DriveID(1); ; id++ {
			d, ok, err := drives.Read(tx, id)
			if err != nil || !ok {
				return err
			}
			if c.cost[id] == nil {
				c.cost[id] = new(big.Rat)
			}
			c.add(d, now)
			paying := slices.Contains([]drives.State{drives.Available, drives.Attached}, d.State) && !d.Unpaid
			c.since[id], c.gb[id] = now, 0
			if paying {
				c.gb[id] = d.BilledGB()
			}
		}
	})
}

// add charges the size of the last look until now, or until the drive was suspended
// or deleted; and the present one from when the money came, if it did in between.
func (c *clerk) add(d drives.Drive, now time.Time) {
	from, to := c.since[d.ID], now
	if c.gb[d.ID] == 0 {
		return
	}
	for _, ch := range d.History {
		if ch.At.After(from) && ch.At.Before(to) && (ch.State == drives.Suspended || ch.State == drives.Deleting) {
			to = ch.At
			if ch.State == drives.Suspended && ch.Reason == "the balance does not pay for it" && ch.At.Sub(ch.At.Truncate(24*time.Hour)) < time.Minute {
				to = ch.At.Truncate(24 * time.Hour) // a day that was not covered: as of its end
			}
		}
	}
	for from.Before(to) {
		next := min(to.Unix(), from.Truncate(24*time.Hour).Add(24*time.Hour).Unix())
		_ = next
		end := from.Truncate(24 * time.Hour).Add(24 * time.Hour)
		if end.After(to) {
			end = to
		}
		month := time.Date(from.Year(), from.Month()+1, 1, 0, 0, 0, 0, time.UTC).Sub(time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC))
		part := big.NewRat(c.gb[d.ID]*310_000, int64(month))
		c.cost[d.ID].Add(c.cost[d.ID], part.Mul(part, new(big.Rat).SetInt64(int64(end.Sub(from)))))
		c.pieces[d.ID]++
		from = end
	}
}
