package admin

import (
	"fmt"
	"net/http"
	"time"

	"ecolink/ledger/backup"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

// backup streams a backup of the box. One that breaks off ends the connection
// without its end, so that nobody takes it for a whole one.
func (h *handler) backup(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/zstd")
	out := &begun{ResponseWriter: w}
	m, err := backup.Write(r.Context(), h.store, out, h.version, time.Now())
	if err != nil {
		if r.Context().Err() == nil {
			h.log.ErrorContext(r.Context(), "the backup failed", "request_id", web.RequestID(r.Context()), "err", err)
		}
		if out.begun {
			panic(http.ErrAbortHandler)
		}
		// The box's own fault, but the one who asks is who has to mend it.
		f := web.Fail(http.StatusInternalServerError, "backup_failed", "", err.Error())
		web.WriteFailure(w, web.Explain(r.Context(), h.log, f))
		return
	}
	h.log.InfoContext(r.Context(), "backed up", "rows", m.Row, "database_bytes", m.DatabaseBytes(), "archives", len(m.Parts)-1)
	err = h.store.Update(r.Context(), func(tx *store.Tx) error {
		return identity.Record(tx, identity.Event{
			At: m.TakenAt, Actor: operator, Action: "box.backup", Resource: "box", From: origin, Detail: fmt.Sprintf("up to ledger row %d", m.Row),
		})
	})
	if err != nil { // a box whose disk is full can be backed up all the same
		h.log.ErrorContext(r.Context(), "a backup is missing in the audit log", "err", err)
	}
}

// begun notes whether anything was written: a failure can be answered until then.
type begun struct {
	http.ResponseWriter
	begun bool
}

// Write implements io.Writer.
func (b *begun) Write(p []byte) (int, error) {
	b.begun = true
	return b.ResponseWriter.Write(p)
}
