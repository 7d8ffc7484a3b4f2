package admin

import (
	"context"
	"net/http"

	"ecolink/agent/doctor"
	"ecolink/web"
)

// Doctor looks at the whole box and puts right what it can.
type Doctor interface {
	Examine(ctx context.Context) ([]doctor.Finding, error)
	Mend(ctx context.Context, f doctor.Finding) error
}

// Option adds to what the socket can do.
type Option func(*handler)

// WithDoctor lets the socket examine the box; without it only the books are open.
func WithDoctor(d Doctor) Option { return func(h *handler) { h.doctor = d } }

// findings is the doctor's answer.
type findings struct {
	Findings []doctor.Finding `json:"findings"`
}

func (h *handler) examine(r *http.Request) (int, any, error) {
	if h.doctor == nil {
		return 0, nil, errNoDoctor()
	}
	found, err := h.doctor.Examine(r.Context())
	if found == nil {
		found = []doctor.Finding{}
	}
	return http.StatusOK, findings{found}, err
}

// mend puts one finding right and answers with nothing.
func (h *handler) mend(r *http.Request) (int, any, error) {
	if h.doctor == nil {
		return 0, nil, errNoDoctor()
	}
	var f doctor.Finding
	if err := decode(r, &f); err != nil {
		return 0, nil, err
	}
	if f.Repair == "" {
		return 0, nil, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "repair", "this can't be mended by EcoLink: "+f.Advice)
	}
	return http.StatusOK, struct{}{}, h.doctor.Mend(r.Context(), f)
}

func errNoDoctor() error {
	return web.Fail(http.StatusServiceUnavailable, "unavailable", "", "this EcoLink does not run the box: start `ecolink serve`, or run `ecolink doctor` on the box")
}
