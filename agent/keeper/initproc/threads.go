package initproc

import (
	"runtime"
	"sync"
)

// spareThreads is how many threads Run takes in reserve. The Go runtime was
// seen to use up to seven in all here, and some of them are there already.
const spareThreads = 8

// reserveThreads makes the Go runtime create count threads now; it keeps idle
// ones for ever.
//
// It makes a thread when it happens to need one more, and when the kernel
// refuses, it ends the program ("failed to create new OS thread"). Process 1
// shares the container's limit of processes with the user's, and must outlive
// the moment when they have taken all of it.
func reserveThreads(count int) {
	var parked, all sync.WaitGroup
	parked.Add(count)
	release := make(chan struct{})
	for range count {
		all.Go(func() {
			// A goroutine that waits while it is locked to its thread forces
			// the runtime to find another one for the next.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread() // or the thread would end with it
			parked.Done()
			<-release
		})
	}
	parked.Wait()
	close(release)
	all.Wait()
}
