package nvml

import "encoding/json"

// Reading is a figure that a driver has for some GPUs and not for others. The
// zero Reading is absent, which is not 0: JSON leaves it out, where the field is
// marked omitzero.
type Reading[T any] struct {
	value T
	known bool
}

// Known is the Reading of a figure that the driver gave.
func Known[T any](value T) Reading[T] { return Reading[T]{value: value, known: true} }

// Get gives the figure, and false when it is absent.
func (r Reading[T]) Get() (T, bool) { return r.value, r.known }

// IsZero reports that the figure is absent.
func (r Reading[T]) IsZero() bool { return !r.known }

// MarshalJSON writes the figure alone, and null for none.
func (r Reading[T]) MarshalJSON() ([]byte, error) {
	if !r.known {
		return []byte("null"), nil
	}
	return json.Marshal(r.value)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Reading[T]) UnmarshalJSON(raw []byte) error {
	*r = Reading[T]{}
	if string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(raw, &r.value); err != nil {
		return err
	}
	r.known = true
	return nil
}
