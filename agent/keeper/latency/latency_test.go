package latency

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestThreadsAndThoseToComeHaveShortSlices(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	AskForShortSlices()
	ours, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if ours.Policy != unix.SCHED_NORMAL {
		t.Fatalf("the test runs with policy %d", ours.Policy)
	}
	if ours.Runtime == 0 { // the kernel does not tell of slices
		if os.Getenv("CI") == "true" {
			t.Fatal("this kernel does not tell of slices: the test needs Linux 6.12")
		}
		t.Skip("this kernel has no slices of a process's own (Linux 6.12)")
	}
	if ours.Runtime != uint64(slice) {
		t.Errorf("turns of %d ns", ours.Runtime)
	}
	next := make(chan uint64)
	go func() {
		runtime.LockOSThread() // on another thread than ours
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			attr = &unix.SchedAttr{}
		}
		next <- attr.Runtime
	}()
	if got := <-next; got != uint64(slice) {
		t.Errorf("another thread has turns of %d ns", got)
	}
}
