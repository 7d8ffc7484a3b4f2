package scheduler

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/drives"
)

// Five weeks of creating, growing, snapshots, restoring, deleting, wallets that are
// empty, kills and days without EcoLink cost what a clerk works out who knows only
// the price and, of each drive, which size it had from when to when.
func TestWeeksOfStorageCostWhatAClerkWorksOut(t *testing.T) {
	for seed := range uint64(4) {
		rich := seed%2 == 0 // and never without money: to the micro-dollar
		t.Run(fmt.Sprintf("seed %d, rich %v", seed, rich), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t, 1)
				defer b.close()
				b.priceDrives()
				c := &clerk{box: b, rich: rich, random: rand.New(rand.NewPCG(seed, 0))}
				if rich {
					b.topUp("10000")
				}
				for begun := time.Now(); time.Since(begun) < 35*24*time.Hour; { // into another month
					c.act()
					time.Sleep(time.Duration(c.upTo(40*3600)) * time.Second)
				}
				midnight := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
				time.Sleep(time.Until(midnight))
				b.settle()
				c.account(midnight)
				c.compare()
			})
		})
	}
}

// clerk keeps accounts of his own, of what was read in the drives' records.
type clerk struct {
	*box
	rich   bool
	random *rand.Rand
	acts   int64
	sheets []sheet
}

// sheet is a drive's account.
type sheet struct {
	drive  drives.Drive // as it was read last: it is forgotten long after its deletion
	since  time.Time
	paying bool
	gb     int64    // since then
	cost   *big.Rat // until then, in micro-dollars
	// spared is the most that nobody had money for: each suspension may leave what was
	// not billed yet.
	spared *big.Rat
}

const centADay = 310_000 // micro-dollars a GB and month

// costOf is by the second's share of a calendar month.
func costOf(gb int64, from, to time.Time) *big.Rat {
	all := new(big.Rat)
	for from.Before(to) {
		first := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC)
		next := first.AddDate(0, 1, 0)
		end := to
		if next.Before(to) {
			end = next
		}
		part := big.NewRat(int64(end.Sub(from)), int64(next.Sub(first)))
		all.Add(all, part.Mul(part, new(big.Rat).SetInt64(gb*centADay)))
		from = end
	}
	return all
}

func paying(s drives.State) bool {
	return s == drives.Available || s == drives.Attached
}

// act does one thing, at one instant, and reads what every drive has then.
func (c *clerk) act() {
	c.acts++
	c.account(time.Now().UTC())
	now := time.Now().UTC()
	off := c.deed()
	if off > 0 { // what fell due meanwhile is billed now
		c.account(time.Now().UTC())
		now = time.Now().UTC()
		c.start()
	}
	c.settle()
	for n := DriveID(1); ; n++ {
		if int(n) > len(c.sheets) {
			if c.readDrive(n).ID == 0 {
				return
			}
			c.sheets = append(c.sheets, sheet{cost: new(big.Rat), spared: new(big.Rat)})
		}
		s := &c.sheets[n-1]
		d := c.reread(n)
		if s.paying && d.State == drives.Suspended {
			s.spare(now, off)
		}
		s.since, s.paying, s.gb = now, paying(d.State), d.BilledGB()
	}
}

// reread gives what is known of a drive that has a sheet.
func (c *clerk) reread(n DriveID) drives.Drive {
	c.t.Helper()
	s := &c.sheets[n-1]
	if d := c.readDrive(n); d.ID != 0 {
		s.drive = d
	}
	return s.drive
}

func (s *sheet) spare(at time.Time, off time.Duration) {
	s.spared.Add(s.spared, costOf(s.gb, at.Add(-24*time.Hour-off), at))
}

// account adds what each drive has cost until now. What changes a drive without
// anybody's deed is midnight's or the minute's billing, and is in its history.
func (c *clerk) account(now time.Time) {
	for n := range c.sheets {
		s, d := &c.sheets[n], c.reread(DriveID(n+1))
		to := func(t time.Time) {
			if s.paying {
				s.cost.Add(s.cost, costOf(s.gb, s.since, t))
			}
			s.since = t
		}
		for _, ch := range d.History {
			if ch.At.After(s.since) && !ch.At.After(now) {
				to(ch.At)
				if s.paying && ch.State == drives.Suspended {
					s.spare(ch.At, 0)
				}
				s.paying = paying(ch.State)
			}
		}
		to(now)
	}
}

// upTo draws from 1 to most.
func (c *clerk) upTo(most int64) int64 { return 1 + c.random.Int64N(most) }

// deed does something; off is for how long EcoLink was not there, and is not yet.
func (c *clerk) deed() (off time.Duration) {
	id := DriveID(c.upTo(4))
	d := c.readDrive(id)
	switch op := c.upTo(9); {
	case op == 1 || d.ID == 0:
		r := driveRequest(fmt.Sprint("d", c.acts), c.upTo(150))
		if c.upTo(2) == 1 {
			r.Kind = drives.SharedFilesystem
		}
		c.CreateDrive(background, r)
	case op == 2:
		c.GrowDrive(background, alice, d.Kind, id, d.GB+c.upTo(50))
	case op == 3:
		c.SnapshotDrive(background, alice, d.Kind, id, fmt.Sprint("s", c.acts), "")
	case op == 4 && len(d.Snapshots) > 0:
		c.DeleteSnapshot(background, alice, d.Kind, id, d.Snapshots[0].Name)
	case op == 5 && len(d.Snapshots) > 0:
		c.RestoreDrive(background, alice, d.Kind, id, d.Snapshots[0].Name, "")
	case op == 6:
		c.DeleteDrive(background, alice, d.Kind, id)
	case op == 7 && !c.rich && c.wallet(alice).Total() > 0:
		c.take([]string{"0", "1"}[c.upTo(2)-1])
	case op == 8:
		c.topUp([]string{"0.50", "20", "100"}[c.upTo(3)-1])
	case op == 9:
		c.stop()
		off = time.Duration(c.upTo(60)) * time.Hour
		time.Sleep(off)
	}
	return off
}

// compare holds the rows against the sheets. Each piece of time that is billed apart
// may be rounded by a micro-dollar.
func (c *clerk) compare() {
	c.t.Helper()
	charged, all := map[string]int64{}, int64(0)
	for _, row := range c.rows(ledger.StorageBilling) {
		charged[row.Resource] += int64(row.Amount)
	}
	rounding := big.NewRat(36+3*c.acts, 1)
	for n, s := range c.sheets {
		d := c.reread(DriveID(n + 1))
		got := big.NewRat(charged[d.Resource()], 1)
		all += charged[d.Resource()]
		most := new(big.Rat).Add(s.cost, rounding)
		least := new(big.Rat).Sub(new(big.Rat).Sub(s.cost, s.spared), rounding)
		if got.Cmp(most) > 0 || got.Cmp(least) < 0 {
			c.t.Errorf("%s cost %s to %s micro-dollars, and was charged %s; it is %s", d, least.FloatString(0), most.FloatString(0), got.FloatString(0), d.State)
		}
		c.t.Logf("%s cost %s, of which %s may be spared, and was charged %s", d, s.cost.FloatString(1), s.spared.FloatString(1), got.FloatString(0))
	}
	if all == 0 {
		c.t.Error("nothing was charged")
	}
	for _, s := range c.sheets {
		if c.rich && s.spared.Sign() != 0 {
			c.t.Error("something was suspended although there was money")
		}
	}
}
