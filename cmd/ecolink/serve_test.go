package main

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
)

// Whatever the umask, nobody but root may connect at any moment.
func TestAdminSocketIsNeverOpenToOthers(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	var open atomic.Uint32
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-stop:
				return
			default:
			}
			info, err := os.Stat(adminSocket(dir))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
				return
			}
			if err == nil && info.Mode().Perm() != 0o600 {
				open.Store(uint32(info.Mode().Perm()))
			}
		}
	}()
	for range 300 {
		l, err := listenAdmin(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-watched
	if mode := open.Load(); mode != 0 {
		t.Errorf("for a moment the socket's mode was %o", mode)
	}
}
