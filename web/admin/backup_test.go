package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/backup"
	"ecolink/ledger/store"
)

func (b *box) get(path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestBackupIsStreamedAndIsInTheAuditLog(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	b.call("POST", "/admin/topup", withKey(object{"account": 1, "amount": "25.00"}), 200)
	w := b.get("/admin/backup")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/zstd" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	found, err := backup.VerifyFile(t.Context(), w.Body, t.TempDir())
	if err != nil || found.Books.Rows != 1 || found.Manifest.EcoLink != "test" {
		t.Errorf("%+v, %v", found, err)
	}
	if all := b.audit(); all[len(all)-1] != "box.backup" {
		t.Errorf("audit log: %v", all)
	}
}

// archived gives the box some rows in an archive, whose file it names.
func (b *box) archived() string {
	b.t.Helper()
	then := time.Now().Add(-2 * ledger.MinArchiveAge)
	b.update(func(tx *store.Tx) error {
		for range 300 {
			if _, err := ledger.Credit(tx, ledger.Entry{At: then, Account: 1, Amount: 1}); err != nil {
				return err
			}
		}
		return nil
	})
	made, err := ledger.Archive(context.Background(), b.store, time.Now().Add(-ledger.MinArchiveAge), time.Now())
	if err != nil || len(made.Files) != 1 {
		b.t.Fatalf("%+v, %v", made, err)
	}
	return filepath.Join(filepath.Dir(b.store.Path()), ledger.ArchiveFolder, made.Files[0].Name)
}

func TestBackupThatFailsIsNoAnswerThatLooksWhole(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	archive := b.archived()
	if err := os.Remove(archive); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(b.handler)
	defer server.Close()
	resp, err := http.Get(server.URL + "/admin/backup")
	if err != nil {
		return // aborted before it was answered
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusInternalServerError && err == nil {
		if !strings.Contains(string(raw), archive) {
			t.Errorf("the answer does not name the archive: %s", raw)
		}
		return
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%s with %d bytes, %v", resp.Status, len(raw), err)
	}
}

func TestOldRowsAreArchivedOnRequest(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	b.archived()
	b.refused("/admin/ledger/archive", object{"before": time.Now().Format(time.RFC3339)}, 422, "unprocessable", "before")
	b.refused("/admin/ledger/archive", object{}, 422, "unprocessable", "before")
	b.refused("/admin/ledger/archive", object{"before": "then"}, 422, "unprocessable", "before")
	then := time.Now().Add(-2 * ledger.MinArchiveAge)
	b.update(func(tx *store.Tx) error {
		for range 300 {
			if _, err := ledger.Credit(tx, ledger.Entry{At: then, Account: 1, Amount: 1}); err != nil {
				return err
			}
		}
		return nil
	})
	before := object{"before": time.Now().AddDate(0, 0, -31).Format(time.RFC3339)}
	out := b.call("POST", "/admin/ledger/archive", before, 200)
	if out["rows"].(float64) < 200 || len(out["files"].([]any)) != 1 {
		t.Errorf("%v", out)
	}
	if all := b.audit(); all[len(all)-1] != "ledger.archive" {
		t.Errorf("audit log: %v", all)
	}
	if out := b.call("POST", "/admin/ledger/archive", before, 200); out["rows"] != 0.0 {
		t.Errorf("again: %v", out)
	}
	if out := b.call("POST", "/admin/ledger/verify", nil, 200); out["archived"].(float64) < 400 {
		t.Errorf("%v", out)
	}
}
