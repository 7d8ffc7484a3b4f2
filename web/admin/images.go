package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web"
)

// importPatience is how long a piece of an image's file may take to arrive.
const importPatience = time.Minute

// Images is where a box keeps container images. inUse are names or digests that may
// not go.
type Images interface {
	Images(ctx context.Context, inUse []string) ([]agent.StoredImage, error)
	ImportImage(ctx context.Context, file io.Reader, name string) ([]agent.StoredImage, error)
	RemoveImage(ctx context.Context, image string, inUse []string) (agent.StoredImage, error)
	RemoveUnusedImages(ctx context.Context, inUse []string) ([]agent.StoredImage, error)
}

// WithImages lets the operator import, list and remove the box's images: those that
// the scheduler's instances need stay.
func WithImages(images Images, sched *scheduler.Scheduler) Option {
	return func(h *handler) { h.images = &imageKeeper{images, sched} }
}

type imageKeeper struct {
	Images
	scheduler *scheduler.Scheduler
}

// theImages are the box's, which is there only while EcoLink runs.
func (h *handler) theImages() (k *imageKeeper, inUse []string, err error) {
	if h.images == nil {
		return nil, nil, web.Fail(http.StatusServiceUnavailable, "unavailable", "", "images are there only while EcoLink runs: start it first")
	}
	inUse, err = h.images.scheduler.ImagesInUse()
	return h.images, inUse, err
}

// imageRow is an image as the operator sees it.
type imageRow struct {
	Digest   string    `json:"digest"`
	Names    []string  `json:"names"`
	Bytes    int64     `json:"bytes"`
	UsedAt   time.Time `json:"used_at"`
	Imported bool      `json:"imported"`
	InUse    bool      `json:"in_use"`
}

type imageList struct {
	Data []imageRow `json:"data"`
}

func imageRows(found []agent.StoredImage) imageList {
	out := imageList{Data: []imageRow{}}
	for _, s := range found {
		names := s.Names
		if names == nil {
			names = []string{}
		}
		out.Data = append(out.Data, imageRow{Digest: s.Digest, Names: names, Bytes: s.Bytes, UsedAt: s.Used.UTC(), Imported: s.Imported, InUse: s.InUse})
	}
	return out
}

func (h *handler) listImages(r *http.Request) (int, any, error) {
	images, inUse, err := h.theImages()
	if err != nil {
		return 0, nil, err
	}
	found, err := images.Images.Images(r.Context(), inUse)
	return http.StatusOK, imageRows(found), err
}

func (h *handler) removeImage(r *http.Request) (int, any, error) {
	var in struct {
		Image string `json:"image"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	images, inUse, err := h.theImages()
	if err != nil {
		return 0, nil, err
	}
	gone, err := images.RemoveImage(r.Context(), in.Image, inUse)
	switch {
	case errors.Is(err, agent.ErrImageInUse):
		return 0, nil, web.Fail(http.StatusConflict, "conflict", "image", err.Error())
	case errors.Is(err, agent.ErrNoImage):
		return 0, nil, web.Fail(http.StatusNotFound, "not_found", "image", err.Error())
	case err != nil:
		return 0, nil, err
	}
	return http.StatusOK, imageRows([]agent.StoredImage{gone}), h.noteImages(r.Context(), "image.remove", []agent.StoredImage{gone})
}

func (h *handler) pruneImages(r *http.Request) (int, any, error) {
	images, inUse, err := h.theImages()
	if err != nil {
		return 0, nil, err
	}
	gone, err := images.RemoveUnusedImages(r.Context(), inUse)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, imageRows(gone), h.noteImages(r.Context(), "image.prune", gone)
}

// importFile takes images from a file that the body is. It may be long: each piece
// has its time, and not the whole.
func (h *handler) importImage(w http.ResponseWriter, r *http.Request) {
	h.answer(func(r *http.Request) (int, any, error) {
		images, _, err := h.theImages()
		if err != nil {
			return 0, nil, err
		}
		body := &patientBody{r.Body, http.NewResponseController(w)}
		found, err := images.ImportImage(r.Context(), body, r.URL.Query().Get("name"))
		var refused interface{ Permanent() bool }
		if errors.As(err, &refused) && refused.Permanent() {
			return 0, nil, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "file", err.Error())
		}
		if err != nil && r.Context().Err() == nil {
			h.log.ErrorContext(r.Context(), "an image could not be imported", "request_id", web.RequestID(r.Context()), "err", err)
			// The box's own fault, but the one who asks is who has to mend it.
			return 0, nil, web.Fail(http.StatusInternalServerError, "import_failed", "", err.Error())
		}
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, imageRows(found), h.noteImages(r.Context(), "image.import", found)
	})(w, r)
}

// patientBody is a body of any length whose pieces come in time.
type patientBody struct {
	io.Reader
	rc *http.ResponseController
}

// Read implements io.Reader.
func (b *patientBody) Read(p []byte) (int, error) {
	// Where there is no connection, as in a test, there is no deadline to set.
	_ = b.rc.SetReadDeadline(time.Now().Add(importPatience))
	n, err := b.Reader.Read(p)
	if err != nil {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// note writes into the audit log what became of images.
func (h *handler) noteImages(ctx context.Context, action string, what []agent.StoredImage) error {
	if len(what) == 0 {
		return nil
	}
	return h.store.Update(ctx, func(tx *store.Tx) error {
		for _, s := range what {
			err := identity.Record(tx, identity.Event{
				At: time.Now(), Actor: operator, Action: action, Resource: "image", From: origin,
				Detail: fmt.Sprintf("%s %s", strings.Join(s.Names, ", "), s.Digest),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
