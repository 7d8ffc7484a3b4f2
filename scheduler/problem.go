package scheduler

// Kind says what sort of problem it is; web maps each to one HTTP status and the
// CLI to one exit code.
type Kind string

// The kinds.
const (
	Malformed     Kind = "invalid_request"
	Unprocessable Kind = "unprocessable"
	NotFound      Kind = "not_found"
	Conflict      Kind = "conflict"
	Unavailable   Kind = "unavailable"
)

// Problem is an error for the person who asked: what happened, to what, and what
// to do next.
type Problem struct {
	Kind    Kind
	Field   string // of the request, when one is to blame
	Message string
	Err     error // the cause, for the log
}

func (p *Problem) Error() string { return p.Message }
func (p *Problem) Unwrap() error { return p.Err }
