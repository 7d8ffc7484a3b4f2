package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecolink/agent/doctor"
	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

func TestDoctorSaysWhenTheLedgerRefusesTheClock(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	must(t, err)
	defer st.Close()
	check := newCheckup(serveConfig{dataDir: "/data"}, st, nil)
	newest := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	must(t, st.Update(t.Context(), func(tx *store.Tx) error { _, err := identity.CreateAccount(tx, "ana", newest); return err }))
	at := func(now time.Time) []doctor.Finding {
		t.Helper()
		found, err := check.records(now)
		must(t, err)
		return found
	}
	if found := at(newest); len(found) > 0 {
		t.Fatalf("of a new box: %+v", found)
	}
	credit := func(at time.Time) error {
		return st.Update(t.Context(), func(tx *store.Tx) error {
			_, err := ledger.Credit(tx, ledger.Entry{At: at, Account: 1, Amount: 1})
			return err
		})
	}
	must(t, credit(newest))
	for _, c := range []struct {
		now time.Time
		how string // "" when the ledger takes it
	}{
		{newest, ""}, {newest.Add(time.Hour), ""}, {newest.Add(-time.Minute), ""},
		{newest.Add(-time.Hour), " before "}, {newest.Add(ledger.ClockLeap + time.Hour), " long after "},
	} {
		found := at(c.now)
		if c.how == "" && len(found) > 0 {
			t.Errorf("at %s: %+v", c.now, found)
		}
		if c.how == "" {
			continue
		}
		if len(found) != 1 || found[0].Kind != doctor.Clock || found[0].Minor || !strings.Contains(found[0].Why, c.how) || !strings.Contains(found[0].Advice, "ecolink ledger accept-clock") {
			t.Errorf("at %s: %+v", c.now, found)
		}
		if credit(c.now) == nil {
			t.Errorf("the ledger takes a row at %s", c.now)
		}
	}
	// As the command that is advised does.
	wrong := newest.Add(-time.Hour)
	must(t, st.Update(t.Context(), func(tx *store.Tx) error { _, err := ledger.AcceptClock(tx, wrong); return err }))
	if found := at(wrong); len(found) > 0 {
		t.Errorf("after it was accepted: %+v", found)
	}
}
