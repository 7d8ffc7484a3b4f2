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
	found := damage(p)
	if found == nil {
		panic(p)
	}
	*err = found
}

// damage is the error for a panic that tells of a damaged file; nil for others,
// which are bugs.
func damage(p any) error {
	if fault, ok := p.(interface {
		runtime.Error
		Addr() uintptr
	}); ok {
		return fmt.Errorf("reading the file at %#x failed: %w", fault.Addr(), ErrDamaged)
	}
	if text := fmt.Sprint(p); inBolt(string(debug.Stack())) {
		return fmt.Errorf("%s: %w", text, ErrDamaged)
	}
	return nil
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
