package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/scheduler/schedulertest"
	"ecolink/web"
)

// shelf keeps images in memory. One called "used" is in use.
type shelf struct{ stored []agent.StoredImage }

func (s *shelf) Images(context.Context, []string) ([]agent.StoredImage, error) { return s.stored, nil }

func (s *shelf) ImportImage(_ context.Context, file io.Reader, name string) ([]agent.StoredImage, error) {
	raw, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	switch string(raw) {
	case "bad":
		return nil, schedulertest.Refusal("this is no file that docker save has written")
	case "full":
		return nil, errors.New("the box's disk is full")
	}
	made := agent.StoredImage{Digest: schedulertest.Digest(string(raw)), Names: []string{name}, Bytes: int64(len(raw)), Used: time.Now(), Imported: true}
	s.stored = append(s.stored, made)
	return []agent.StoredImage{made}, nil
}

func (s *shelf) RemoveImage(_ context.Context, image string, _ []string) (agent.StoredImage, error) {
	for n, i := range s.stored {
		switch {
		case !slices.Contains(i.Names, image):
		case image == "used":
			return i, agent.ErrImageInUse
		default:
			s.stored = slices.Delete(s.stored, n, n+1)
			return i, nil
		}
	}
	return agent.StoredImage{}, agent.ErrNoImage
}

func (s *shelf) RemoveUnusedImages(context.Context, []string) ([]agent.StoredImage, error) {
	gone := s.stored
	s.stored = nil
	return gone, nil
}

func TestImagesAreImportedListedAndRemovedAndEachIsInTheAuditLog(t *testing.T) {
	b := newBox(t)
	log := slog.New(slog.DiscardHandler)
	sched := scheduler.New(b.store, nil, nil, log)
	b.handler = web.Identify(Handler(b.store, identity.NewHasher(1), "test", log, WithImages(&shelf{}, sched)), log, "")
	large := strings.Repeat("x", 2*maxBody) // no limit as other bodies have
	for _, name := range []string{"used", "box"} {
		out := b.call(http.MethodPost, "/admin/images/import?name="+name, large, 200)
		row := out["data"].([]any)[0].(object)
		if row["imported"] != true || row["bytes"] != float64(len(large)) || row["names"].([]any)[0] != name {
			t.Errorf("got %v", row)
		}
	}
	b.refused("/admin/images/import", "bad", 422, "unprocessable", "file")
	b.refused("/admin/images/import", "full", 500, "import_failed", nil)
	if list := b.call(http.MethodGet, "/admin/images", nil, 200)["data"].([]any); len(list) != 2 {
		t.Errorf("got %v", list)
	}
	b.refused("/admin/images/remove", object{"image": "used"}, 409, "conflict", "image")
	b.refused("/admin/images/remove", object{"image": "missing"}, 404, "not_found", "image")
	b.call(http.MethodPost, "/admin/images/remove", object{"image": "box"}, 200)
	if gone := b.call(http.MethodPost, "/admin/images/prune", nil, 200)["data"].([]any); len(gone) != 1 {
		t.Errorf("got %v", gone)
	}
	if got := strings.Join(b.audit(), " "); got != "image.import image.import image.remove image.prune" {
		t.Errorf("the audit log has %s", got)
	}
}

func TestImagesAreThereOnlyWhileEcoLinkRuns(t *testing.T) {
	b := newBox(t)
	b.refused("/admin/images/prune", nil, 503, "unavailable", nil)
	b.refused("/admin/images/import", "x", 503, "unavailable", nil)
}
