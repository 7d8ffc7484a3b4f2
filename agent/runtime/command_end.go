package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"golang.org/x/sys/unix"
)

// endedPath is where process 1 writes how the start command ended: on a tmpfs of
// the container's, which is new whenever it starts. What is in it is the user's
// word: root inside can write anything there.
const endedPath = "/run/ecolink/ended"

// Limits of what is believed of it.
const (
	maxEndedBytes = 4 << 10
	maxEndedError = 300 // characters
)

// CommandEnd is how a container's start command ended.
type CommandEnd struct {
	At     time.Time
	Code   int
	Signal int
	Error  string
}

// Ended says what became of a container beside its process 1: how its start
// command ended (nil while it runs or when unknown), and how many of its
// processes were ended for want of memory.
func (r *Runtime) Ended(id string, st Status) (*CommandEnd, int64) {
	if !st.Exists {
		return nil, 0
	}
	var command *CommandEnd
	if st.Running {
		command = readEnded(st.PID)
	}
	return command, r.oomKills(id)
}

func readEnded(pid uint32) *CommandEnd {
	root, err := openRoot(pid)
	if err != nil {
		return nil
	}
	defer unix.Close(root)
	// Not blocking: it may be a pipe by now.
	fd, err := unix.Openat2(root, endedPath, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), endedPath)
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxEndedBytes))
	if err != nil {
		return nil
	}
	return parseEnded(raw)
}

// parseEnded reads what initproc writes: `TIME CODE SIGNAL WHY`.
func parseEnded(raw []byte) *CommandEnd {
	words := strings.SplitN(strings.TrimSuffix(string(raw), "\n"), " ", 4)
	if len(words) != 4 {
		return nil
	}
	e := CommandEnd{Error: words[3]}
	var bad [3]error
	e.At, bad[0] = time.Parse(time.RFC3339Nano, words[0])
	e.Code, bad[1] = strconv.Atoi(words[1])
	e.Signal, bad[2] = strconv.Atoi(words[2])
	if errors.Join(bad[:]...) != nil || e.Code < 0 || e.Code > 255 || e.Signal < 0 || e.Signal > 64 {
		return nil
	}
	printable := func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return -1
	}
	if text := []rune(strings.Map(printable, e.Error)); len(text) > maxEndedError {
		e.Error = string(text[:maxEndedError]) + "…"
	} else {
		e.Error = string(text)
	}
	return &e
}

// endWatch tells when start commands end: containerd does not, since the
// container outlives them.
type endWatch struct {
	events *os.File        // an inotify
	early  func(id string) // called, by add, for one that has ended before it was watched

	mu  sync.Mutex
	ids map[int]string // of containers, by watch
}

func newEndWatch(early func(id string)) (*endWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch containers: %w", err)
	}
	return &endWatch{events: os.NewFile(uintptr(fd), "inotify"), early: early, ids: map[int]string{}}, nil
}

// add watches a running container. That it can't be watched only means that its
// news come with the next heartbeat.
func (w *endWatch) add(id string, pid uint32) {
	root, err := openRoot(pid)
	if err != nil {
		return
	}
	defer unix.Close(root)
	dir, err := unix.Openat2(root, path.Dir(endedPath), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return
	}
	defer unix.Close(dir)
	w.mu.Lock()
	defer w.mu.Unlock()
	raw, err := w.events.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = raw.Control(func(fd uintptr) {
		// Once: root inside could keep us busy with more. It comes by a rename.
		watch, err := unix.InotifyAddWatch(int(fd), fmt.Sprintf("/proc/self/fd/%d", dir), unix.IN_MOVED_TO|unix.IN_ONESHOT)
		if err == nil {
			w.ids[watch] = id
		}
	})
	if unix.Faccessat(dir, path.Base(endedPath), unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil {
		w.early(id)
	}
}

// follow calls ended for each container whose start command has ended, until close.
func (w *endWatch) follow(ended func(id string)) {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.events.Read(buf)
		if err != nil {
			return
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			// inotify(7): the watch, the mask, a cookie, the length of the name, the name.
			watch, mask := int(binary.NativeEndian.Uint32(rest)), binary.NativeEndian.Uint32(rest[4:])
			size := min(unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(rest[12:])), len(rest))
			name := strings.TrimRight(string(rest[unix.SizeofInotifyEvent:size]), "\x00")
			rest = rest[size:]
			w.mu.Lock()
			id := w.ids[watch]
			if mask&unix.IN_IGNORED != 0 { // it has told, or its file system is gone
				delete(w.ids, watch)
			}
			w.mu.Unlock()
			if id != "" && name == path.Base(endedPath) {
				ended(id)
			}
		}
	}
}

func (w *endWatch) close() error { return w.events.Close() }

// watchRunning takes up the containers that run already.
func (r *Runtime) watchRunning(ctx context.Context) {
	got, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("running containers can't be watched for the end of their commands", "err", err)
		return
	}
	for _, p := range got.Tasks {
		if p.Status == tasktypes.Status_RUNNING {
			r.ends.add(p.ID, p.Pid)
		}
	}
}
