package nvml

import (
	"fmt"
	"sync"
	"time"
)

// waiting knows which subjects still owe an answer.
type waiting struct {
	mu       sync.Mutex
	subjects map[string]bool
}

// add reports false when subject already owes an answer.
func (w *waiting) add(subject string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.subjects[subject] {
		return false
	}
	if w.subjects == nil {
		w.subjects = map[string]bool{}
	}
	w.subjects[subject] = true
	return true
}

func (w *waiting) remove(subject string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.subjects, subject)
}

func (w *waiting) any() (subject string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for subject := range w.subjects {
		return subject, true
	}
	return "", false
}

// ask makes a call that may hang in the driver, and waits for it no longer than
// limit. A call that hangs keeps its goroutine, since NVML cannot be
// interrupted; until it returns, every further question to the same subject
// fails at once, so that hung calls do not pile up.
func ask[T any](w *waiting, subject string, limit time.Duration, call func() (T, error)) (T, error) {
	type reply struct {
		value T
		err   error
	}
	var none T
	if !w.add(subject) {
		return none, fmt.Errorf("%s has not answered an earlier question yet: look at dmesg for Xid errors", subject)
	}
	replies := make(chan reply, 1)
	go func() {
		value, err := call()
		w.remove(subject)
		replies <- reply{value, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-replies:
		return r.value, r.err
	case <-timer.C:
		return none, fmt.Errorf("%s did not answer within %v: look at dmesg for Xid errors", subject, limit)
	}
}
