package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ecolink/agent/doctor"
	"ecolink/ledger"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web/files"
)

// orphanPrefix begins the names of findings about uploads whose volume is gone; the
// rest is the volume's number. Other such findings bear a volume's name.
const orphanPrefix = "of drive "

// records finds what is wrong with the box's records: the books, the clock beside
// them, and notes of uploads whose volume is gone.
func (c checkup) records(now time.Time) (found []doctor.Finding, err error) {
	database := []string{filepath.Join(c.places.DataDir, "ecolink.db")}
	err = c.store.View(func(tx *store.Tx) error {
		found = nil
		var wrong *ledger.Disagreement
		if _, err := ledger.Verify(tx); errors.As(err, &wrong) {
			found = append(found, doctor.Finding{Kind: doctor.Books, Name: "ledger", Where: database, Why: wrong.Error(),
				Advice: "keep the file, and restore the last backup that verifies: `ecolink restore`"})
		} else if err != nil {
			return err
		}
		var clock *ledger.ClockError
		if err := ledger.CheckClock(tx, now); errors.As(err, &clock) {
			found = append(found, clockFinding(clock))
		} else if err != nil {
			return err
		}
		orphans, err := files.Orphans(tx, now)
		for _, id := range orphans {
			found = append(found, doctor.Finding{Kind: doctor.Uploads, Name: fmt.Sprint(orphanPrefix, int64(id)), Where: database,
				Why: "unfinished uploads are noted of it, and it is gone", Repair: "forget them; no file is touched"})
		}
		return err
	})
	return found, err
}

func clockFinding(e *ledger.ClockError) doctor.Finding {
	how := "before"
	if e.Now.After(e.Newest) {
		how = "long after"
	}
	return doctor.Finding{Kind: doctor.Clock, Name: "ledger", Where: []string{},
		Why:    fmt.Sprintf("it says %s, which is %s the newest row of the ledger (%s): no money moves", e.Now.Format(time.RFC3339), how, e.Newest.Format(time.RFC3339)),
		Advice: "set the clock right; if it is right now, `ecolink ledger accept-clock` says so"}
}

// mendUploads removes what nobody goes on with, or the note of it.
func (c checkup) mendUploads(ctx context.Context, known doctor.Known, f doctor.Finding) error {
	number, orphan := strings.CutPrefix(f.Name, orphanPrefix)
	if !orphan {
		return doctor.RemoveUploads(c.places, known, f)
	}
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return fmt.Errorf("%s %s: there is no such finding", f.Kind, f.Name)
	}
	return c.store.Update(ctx, func(tx *store.Tx) error { return files.ForgetOrphan(tx, scheduler.DriveID(id), time.Now()) })
}
