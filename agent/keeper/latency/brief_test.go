package latency

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBriefCallsDoWhatTheAnnouncedOnesDo(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(pair[1]) })
	buf := make([]byte, 8)
	if n, err := Read(pair[1], buf); n != 0 || err != unix.EAGAIN {
		t.Errorf("nothing to read: %d, %v", n, err)
	}
	if n, err := Send(pair[0], []byte("key")); n != 3 || err != nil {
		t.Errorf("sent %d, %v", n, err)
	}
	if n, err := Read(pair[1], buf); string(buf[:n]) != "key" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	for err = nil; err == nil; {
		_, err = Send(pair[0], bytes.Repeat([]byte("x"), 64<<10))
	}
	if err != unix.EAGAIN {
		t.Errorf("a full socket: %v", err)
	}
	if err := unix.Close(pair[0]); err != nil {
		t.Fatal(err)
	}
	for n := 1; n > 0; {
		n, err = Read(pair[1], buf)
	}
	if err != nil {
		t.Errorf("at the end: %v", err)
	}
	if n, err := Send(pair[1], []byte("x")); n != 0 || err != unix.EPIPE {
		t.Errorf("nobody there: %d, %v", n, err)
	}
	if n, err := Read(-1, buf); n != 0 || !errors.Is(err, unix.EBADF) {
		t.Errorf("no descriptor: %d, %v", n, err)
	}
}

func TestADescriptorThatWasMadeBlockDoesNotAnyMore(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(unix.Close(pair[0]), unix.Close(pair[1])) })
	if KeepNonblocking(pair[0]) {
		t.Error("a descriptor that blocks is said not to")
	}
	if !KeepNonblocking(pair[0]) {
		t.Error("it blocks still")
	}
	if n, err := Read(pair[0], make([]byte, 8)); n != 0 || err != unix.EAGAIN {
		t.Errorf("nothing to read: %d, %v", n, err)
	}
}

func TestBriefWritesGoWhereTheyShall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, w := range []struct {
		at   int64
		text string
	}{{6, "world"}, {0, "hello "}, {3, ""}} {
		if n, err := WriteAt(int(file.Fd()), []byte(w.text), w.at); n != len(w.text) || err != nil {
			t.Errorf("%q: %d, %v", w.text, n, err)
		}
	}
	if text, err := os.ReadFile(path); string(text) != "hello world" || err != nil {
		t.Errorf("the file is %q, %v", text, err)
	}
}
