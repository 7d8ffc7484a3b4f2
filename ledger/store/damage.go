package store

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// bbolt trusts the pages of its file: one that is torn or gone makes it panic, or
// read beyond what is mapped. guard turns the latter into panics too, and
// catchDamage makes errors of both, so that a damaged file ends a request and not
// the box.

// UnreadableError says that bbolt gave up on a page. A damaged file is the likely
// cause; a fault of EcoLink's can look the same. To errors.Is it is ErrDamaged.
type UnreadableError struct {
	// Cause is what bbolt said.
	Cause string
	// Stack is where it said so, for the log.
	Stack []byte
}

func (e *UnreadableError) Error() string {
	return "the database file can't be read, or EcoLink has a bug: run `ecolink ledger verify` before you restore a backup (" + e.Cause + ")"
}

// Is has the error taken for damage.
func (e *UnreadableError) Is(target error) bool { return target == ErrDamaged }

// Panic is what Update panics with when fn panicked in the writer's goroutine: the
// value and the place, which its caller's stack does not show.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprintf("%v\n\nin an update:\n%s", p.Value, p.Stack) }

// Unwrap gives the value if it is an error.
func (p *Panic) Unwrap() error { err, _ := p.Value.(error); return err }

// guard has faults in mapped memory panic in this goroutine until done is called.
func guard() (done func()) {
	before := debug.SetPanicOnFault(true)
	return func() { debug.SetPanicOnFault(before) }
}

// catchDamage is deferred around whatever reads the file.
func catchDamage(err *error) {
	p := recover()
	if p == nil {
		return
	}
	found := damage(p, debug.Stack())
	if found == nil {
		panic(p) // from here: the stack still has its origin
	}
	*err = found
}

// damage is the error for a panic that tells of a damaged file; nil for others,
// which are bugs.
func damage(p any, stack []byte) error {
	if fault, ok := p.(interface {
		runtime.Error
		Addr() uintptr
	}); ok {
		return fmt.Errorf("reading the file at %#x failed: %w", fault.Addr(), ErrDamaged)
	}
	if text := fmt.Sprint(p); inBolt(string(stack)) && !misuse(text) {
		return &UnreadableError{Cause: text, Stack: stack}
	}
	return nil
}

// misuse tells bbolt's complaints about its caller from those about its pages.
func misuse(text string) bool {
	return strings.Contains(text, "tx closed") || strings.Contains(text, "managed tx")
}

// inBolt tells whether the panic came from bbolt's own code: the first frame
// below the runtime's.
func inBolt(stack string) bool {
	_, after, found := strings.Cut(stack, "panic(")
	if !found {
		return false
	}
	for _, line := range strings.Split(after, "\n")[1:] {
		if strings.HasPrefix(line, "\t") || line == "" || strings.HasPrefix(line, "runtime.") || strings.HasPrefix(line, "panic(") {
			continue
		}
		return strings.HasPrefix(line, "go.etcd.io/bbolt")
	}
	return false
}
