package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"ecolink/web"
)

// takeBody reads the whole body, at most maxBody of it, and puts what it read in
// its place. A body that says it is too large is not read at all.
func takeBody(w http.ResponseWriter, r *http.Request) error {
	tooLarge := web.Fail(http.StatusRequestEntityTooLarge, "request_too_large", "",
		fmt.Sprintf("a request body may have %d bytes at most: send less", maxBody))
	if r.ContentLength > maxBody {
		return tooLarge
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded): // set by web.Identify
		return web.Fail(http.StatusRequestTimeout, "request_timeout", "", "the request body came too slowly: send it again")
	case err != nil:
		return web.Fail(http.StatusBadRequest, "invalid_request", "", "the request body broke off ("+err.Error()+"): send it again")
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	return nil
}

// checkIdempotencyKey refuses a key that could not do what its sender trusts it
// to: an empty one above all, which huma takes for none.
func checkIdempotencyKey(r *http.Request) error {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return nil
	}
	ok := len(values) == 1 && 1 <= len(values[0]) && len(values[0]) <= maxIdempotencyKey
	for _, c := range []byte(values[0]) {
		ok = ok && ' ' <= c && c <= '~'
	}
	if !ok {
		return web.Fail(http.StatusUnprocessableEntity, "unprocessable", "Idempotency-Key",
			fmt.Sprintf("an idempotency key is one header of 1 to %d printable ASCII characters: send such a key, or none", maxIdempotencyKey))
	}
	return nil
}

// unmarshal reads JSON for huma, which wants it twice: as any, to validate it,
// and then as the operation's own type. An error about a field begins with the
// field's name and a colon.
func unmarshal(data []byte, v any) error {
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return fmt.Errorf("%w, at byte %d", err, syntax.Offset)
		}
		return err
	}
	if loose, ok := v.(*any); ok {
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := d.Decode(loose); err != nil {
			return err
		}
		*loose = floats(*loose)
		return nil
	}
	err := json.Unmarshal(data, v)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) && mismatch.Field != "" {
		return fmt.Errorf("%s: %s is out of range or not of the right kind", mismatch.Field, mismatch.Value)
	}
	return err
}

// floats turns numbers into the float64 that huma validates. One that is too
// large becomes infinite, which is a number for the validator; it is then refused
// by its field's name instead of as a fault somewhere in the body.
func floats(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, _ := v.Float64() // the one possible error is the range, and gives ±Inf
		return f
	case map[string]any:
		for k := range v {
			v[k] = floats(v[k])
		}
	case []any:
		for n := range v {
			v[n] = floats(v[n])
		}
	}
	return v
}
